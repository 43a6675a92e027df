"""One file a step. A step that was released is never edited: a later step corrects it."""
