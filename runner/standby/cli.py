"""The `standby` command. Everything it does is in the library; here are its words, its options and its exit codes.

Exit codes: 0 all is well; 1 what was asked for did not hold (a wrong document, a failed demo, a line that is no case);
2 the command was used wrongly; 130 Ctrl-C, where nothing was served yet.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

try:
    import typer
except ModuleNotFoundError:
    sys.exit("standby: the command line needs its extra: pip install 'standby[cli]'")

if TYPE_CHECKING:
    from standby.lab import Explanation, Told
    from standby.runner import Gateway

app = typer.Typer(
    help="Runs AI requests, and fails over by policy when providers fail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

T = TypeVar("T")

ConfigFile = Annotated[
    Path, typer.Argument(help="The configuration document: .yaml, .toml or .json.", metavar="FILE", show_default=False)
]


def main() -> NoReturn:
    """Run the command that the arguments name."""
    try:
        app(prog_name="standby", standalone_mode=True)
    except ModuleNotFoundError as missing:
        fail(f"this command needs the package {missing.name}: pip install 'standby[all]'")
    sys.exit(0)


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what is wrong, and end."""
    typer.echo(f"standby: {message}", err=True)
    raise typer.Exit(code)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"standby {version('standby')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Runs AI requests, and fails over by policy when providers fail."""


@app.command()
def serve(
    config: ConfigFile,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.", show_default=False)] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Overrides server.port; 0 picks a free one.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Overrides server.workers: how many processes share the port.", show_default=False),
    ] = None,
    last_good: Annotated[
        bool,
        typer.Option(
            "--last-good",
            help="Keep a copy of the catalog in FILE.last-good.yaml, and start from it while a store is away.",
        ),
    ] = False,
) -> None:
    """Serve the gateway that FILE describes, until SIGTERM or Ctrl-C; then let what is under way end."""
    from standby.proxy import CannotListen, CannotStart, supervise
    from standby.proxy import serve as run
    from standby.store import InvalidConfig, StoreError, load

    async def until_stopped() -> None:
        await run(config, host=host, port=port, last_good=last_good, explain=_explain_asked, say=typer.echo)

    _log_to_stderr()
    try:
        workers = load(config).server.workers if workers is None else workers
        if workers == 1:
            _run(until_stopped)
        else:
            # -P: what lies in the working folder is not ours to import.
            command = [sys.executable, "-P", "-m", "standby.cli", "worker"]
            supervise(config, workers, command, host=host, port=port, last_good=last_good, say=typer.echo)
    except InvalidConfig as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (StoreError, CannotListen, CannotStart) as error:
        fail(str(error))


@app.command(hidden=True)
def worker(pipe: int) -> None:
    """One process of `serve --workers`, which starts it, and has the other end of PIPE."""
    from standby.proxy import Orphan, Parent, work

    try:
        parent = Parent(pipe)
    except Orphan as error:
        fail(str(error), 2)

    async def until_stopped() -> bool:
        return await work(parent, _explain_asked)

    _log_to_stderr(f"worker {parent.task.number} ")
    raise typer.Exit(0 if _run(until_stopped) else 1)


def _log_to_stderr(who: str = "") -> None:
    import logging

    form = f"%(asctime)s %(levelname)s {who}%(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
    for chatty in ("alembic", "watchfiles"):  # they tell of every look at a schema, and of every file in a folder
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _run(serving: Callable[[], Awaitable[T]]) -> T:
    import anyio

    return anyio.run(serving, backend_options={"use_uvloop": _has("uvloop")})


def _explain_asked(gateway: Gateway, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    from standby import lab

    return lab.ask(gateway.runner.catalog.snapshot(), asked)


@app.command()
def check(config: ConfigFile) -> None:
    """Say everything that is wrong with FILE, all at once."""
    from standby.runner import unfit_clients
    from standby.store import InvalidConfig, load, unfit_to_serve

    try:
        document = load(config)
        if findings := [*unfit_to_serve(document.server, document.store), *unfit_clients(document.providers)]:
            raise InvalidConfig(findings, str(config))  # noqa: TRY301 - said as all else is
    except InvalidConfig as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if not document.models:
        typer.echo(f"{config}: all is well; its models are in {document.store.url.hidden}")
        return
    candidates = sum(len(model.candidates) for model in document.models.values())
    typer.echo(f"{config}: all is well: {len(document.models)} models, {candidates} candidates")


@app.command()
def schema(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference for people instead.")] = False,
) -> None:
    """Print the JSON Schema of the configuration document."""
    if markdown:
        from standby.lab import reference

        typer.echo(reference(), nl=False)
        return
    import json

    from standby.store import schema as document_schema

    typer.echo(json.dumps(document_schema(), indent=2))


@app.command()
def features() -> None:
    """Print what each client can do: what may be asked of it, and what its answers tell."""
    from standby import lab

    typer.echo(lab.features(), nl=False)


@app.command()
def explain(
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Answer decision cases from standard input, a line each.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="The configuration document.", show_default=False)] = None,
    model: Annotated[str, typer.Option(help="The model that was asked for.", show_default=False)] = "",
    candidate: Annotated[str, typer.Option(help="The candidate that failed.", show_default=False)] = "",
    status: Annotated[int, typer.Option(min=0, max=999, help="The HTTP status; 0 where no answer came.")] = 0,
    code: Annotated[
        str | None,
        typer.Option(
            help="The client's code; what the client makes of status and message if left out.", show_default=False
        ),
    ] = None,
    message: Annotated[str, typer.Option(help="What the provider said.", show_default=False)] = "",
    retryable: Annotated[
        bool | None,
        typer.Option(
            "--retryable/--not-retryable", help="The client's own word, if it is not the usual one.", show_default=False
        ),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="The failure is our own rate limit.")] = False,
    state: Annotated[
        bool, typer.Option("--state", help="Say instead how the candidates stand now, from the document's store.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The same from a running gateway; its admin key is taken from STANDBY_ADMIN_KEY.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what would be decided about a failure, by which rule, and where that rule is written; or how things stand."""
    if jsonl:
        _explain_cases()
        return
    if state or server is not None:
        _explain_state(config, server, model, candidate, as_json=as_json)
        return
    from standby.lab import Question, catalog_of
    from standby.lab import explain as explained
    from standby.store import InvalidConfig, StoreError

    if config is None or not model or not candidate:
        fail("explain needs --config FILE, --model NAME and --candidate ID (or --jsonl, --state, --server URL)", 2)
    question = Question(
        model=model, candidate=candidate, status=status, code=code, message=message, retryable=retryable, local=local
    )
    try:
        explanation = explained(catalog_of(config), question)
    except InvalidConfig as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (StoreError, ValueError) as error:
        fail(str(error))
    if as_json:
        _print_json(explanation.as_dict())
    else:
        typer.echo(_in_words(explanation))


def _explain_cases() -> None:
    from standby.lab import answer_lines

    all_well = True
    for well, line in answer_lines(sys.stdin.buffer):
        sys.stdout.buffer.write(line + b"\n")
        all_well = all_well and well
    sys.stdout.buffer.flush()
    if not all_well:
        raise typer.Exit(1)


def _explain_state(config: Path | None, server: str | None, model: str, candidate: str, *, as_json: bool) -> None:
    from standby.lab import state_in_words, state_of_server, state_of_stores

    usage = "explain --state needs either --config FILE or --server URL"
    states = _asked_of(config, server, state_of_stores, state_of_server, usage)
    found = [each for each in states if model in ("", each["model"]) and candidate in ("", each["id"], each["key"])]
    if not found:
        fail(f"no candidate of that name; there are: {', '.join(each['key'] for each in states)}")
    if as_json:
        _print_json(found)
    else:
        typer.echo(state_in_words(found))


def _asked_of(
    config: Path | None,
    server: str | None,
    of_stores: Callable[[Path], T],
    of_server: Callable[[str, str], T],
    usage: str,
) -> T:
    """What the stores of a document say, or a running gateway; ends with a message where neither does."""
    import os

    from standby.lab import NoState
    from standby.store import InvalidConfig, StoreError

    if config is not None and server is None:
        ask = partial(of_stores, config)
    elif config is None and server is not None:
        ask = partial(of_server, server, os.environ.get("STANDBY_ADMIN_KEY", ""))
    else:
        fail(usage, 2)
    try:
        return ask()
    except InvalidConfig as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (StoreError, NoState) as error:
        fail(str(error))


def _print_json(value: object) -> None:
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def _in_words(explanation: Explanation) -> str:
    asked, info = explanation.question, explanation.info
    status = f" with status {info.status}" if info.status else ""
    what = "our own rate limit" if asked.local else f"{info.code or 'no code'}{status}"
    word = "may be tried again" if explanation.retryable else "is final"
    lines = [
        f"{asked.model}/{asked.candidate} fails: {what}" + (f', "{info.message}"' if info.message else "") + ".",
        f"That is of category {info.category}; the client says it {word}.",
    ]
    lines += _told_in_words(explanation.told)
    if explanation.told_observed:
        lines += ["", "The gateway's policy only observes. If it were active:"]
        lines += _told_in_words(explanation.told_observed)
    return "\n".join(lines)


def _told_in_words(decisions: Sequence[Told]) -> Iterator[str]:
    for told in decisions:
        rule = f" = {told.match.value}" if told.match is not None and told.match.source != "provider_client" else ""
        yield ""
        yield f"{told.question:<9} {told.answer}"
        yield f"          {told.sentence}"
        yield f"          because: {told.reason}"
        if told.written:
            yield f"          written: {told.written}{rule}"


StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="The store, if not the one that FILE names.", show_default=False),
]


@app.command("import")
def import_(config: ConfigFile, store: StoreUrl = None) -> None:
    """Make the models, providers and policies of FILE the newest version of a store; gateways that use it follow."""
    from standby.runner import unfit_clients
    from standby.store import InvalidConfig, load, read

    async def imported(url: str) -> str:
        from standby.store.sql import open_sql

        if findings := unfit_clients(load(config).providers):
            raise InvalidConfig(findings, str(config))
        async with open_sql(url) as opened:
            before = opened.catalog.snapshot().version
            version = (await opened.catalog.replace(read(config), str(config), by="import")).version
        return f"version {version} is stored" if version > before else f"version {version} says the same already"

    typer.echo(f"{config}: {_in_store(config, store, imported)}")


@app.command()
def export(
    config: ConfigFile,
    store: StoreUrl = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Which version; the newest if left out.", show_default=False)
    ] = None,
) -> None:
    """Print a version of the catalog that the store of FILE holds, as YAML; secrets stay ${NAME}."""

    async def exported(url: str) -> str:
        import yaml

        from standby.store.sql import open_sql

        async with open_sql(url) as opened:
            return yaml.safe_dump(await opened.catalog.document(version), sort_keys=False, allow_unicode=True)

    typer.echo(_in_store(config, store, exported, makes=False), nl=False)


@app.command()
def audit(
    config: Annotated[
        Path | None, typer.Argument(help="The configuration document, whose store is asked.", metavar="[FILE]")
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A running gateway to ask instead; its admin key is taken from STANDBY_ADMIN_KEY.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many lines at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say who enabled, disabled, cooled, restored and reloaded what, when and why; the newest first."""
    from standby.lab import audit_in_words, audit_of_server, audit_of_store

    of_store, of_server = partial(audit_of_store, limit=limit), partial(audit_of_server, limit=limit)
    lines = _asked_of(config, server, of_store, of_server, "audit needs either FILE or --server URL")
    if as_json:
        _print_json(lines)
    elif lines:
        typer.echo(audit_in_words(lines))


@app.command()
def migrate(config: ConfigFile, store: StoreUrl = None) -> None:
    """Bring the tables of the store of FILE to the newest form; every other command does so too when it opens one."""

    async def migrated(url: str) -> str:
        from standby.store.sql import SCHEMA, open_sql

        async with open_sql(url):
            return f"schema {SCHEMA}"

    typer.echo(f"{config}: {_in_store(config, store, migrated)}")


def _in_store(config: Path, url: str | None, work: Callable[[str], Awaitable[str]], *, makes: bool = True) -> str:
    """Do something in a store that is kept, and end with a message where there is none, or it cannot be used."""
    import anyio

    from standby.lab import refuse_missing_file
    from standby.store import InvalidConfig, StoreError, load

    try:
        url = load(config).store.url if url is None else url
        if url == "memory:":
            fail("store.url is memory: nothing is kept; name a store, as sqlite:///PATH or postgresql://…")
        if not makes:
            refuse_missing_file(url)
        return anyio.run(work, url)
    except (InvalidConfig, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except StoreError as error:
        fail(str(error))


@app.command()
def demo(
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many requests to send.")] = 300,
    serve: Annotated[bool, typer.Option("--serve", help="Keep the gateway up, and print curl lines to try.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve: where to listen; 0 picks a free one.")] = 0,
) -> None:
    """Watch requests being answered while providers fail: real sockets, nothing to configure."""
    from standby.demo import run_demo

    raise typer.Exit(run_demo(requests=requests, serve=serve, port=port))


def _has(package: str) -> bool:
    return find_spec(package) is not None


if __name__ == "__main__":
    main()
