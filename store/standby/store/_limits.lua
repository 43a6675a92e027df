-- Takes and gives back room within limits that processes share; see _valkey_limits.py.
--
-- KEYS: the processes, the life, this process's last batch; then two for each limit: its use, and what was taken of it
-- in the last minute.
-- ARGV: the batch, as JSON.
--
-- A use is a hash: `requests` and `tokens` of the last minute; for each process `out:PROCESS`, its calls under way, and
-- `line:PROCESS`, the moment since which somebody there has waited, and until when that is held to be true. What was
-- taken is sorted by the moment; a member is `PROCESS:NUMBER:TOKENS`.

local batch = cjson.decode(ARGV[1])
local me = batch.me
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local life = redis.call('GET', KEYS[2])
if not life then
    life = batch.new_life
    redis.call('SET', KEYS[2], life)
end
redis.call('EXPIRE', KEYS[2], 7776000)

local known = {}
local function alive(process)
    if known[process] == nil then
        local score = redis.call('ZSCORE', KEYS[1], process)
        known[process] = (score and tonumber(score) > now) or false
    end
    return known[process]
end

-- A batch that was given up, and comes after one that told all anew, was told with that.
local last = KEYS[3]
if tonumber(redis.call('GET', last) or '0') >= batch.number then return cjson.encode({life = life}) end
-- Nothing is decided on what this process is no longer, or not yet, known to hold.
if not batch.restates and (batch.life ~= life or not alive(me)) then return cjson.encode({life = life}) end
redis.call('SET', last, batch.number, 'EX', 86400)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + batch.alive_seconds, me)
redis.call('EXPIRE', KEYS[1], 86400)
known[me] = true

local function tokens_of(member) return tonumber(string.match(member, '%d+$')) end

local function count(use, requests, tokens)
    if requests ~= 0 then redis.call('HINCRBY', use, 'requests', requests) end
    if tokens ~= 0 then redis.call('HINCRBY', use, 'tokens', tokens) end
end

local function keep(use, taken)
    -- Together: what was taken and is no longer there could never be taken off again.
    redis.call('EXPIRE', use, 86400)
    redis.call('EXPIRE', taken, 86400)
end

local function forget(use, taken)
    local old = redis.call('ZRANGEBYSCORE', taken, '-inf', now - 60)
    if #old > 0 then
        local tokens = 0
        for _, member in ipairs(old) do tokens = tokens + tokens_of(member) end
        redis.call('ZREMRANGEBYSCORE', taken, '-inf', now - 60)
        count(use, -#old, -tokens)
    end
    -- The sums are for speed alone: where nothing was taken they are nothing, whatever became of them.
    if redis.call('EXISTS', taken) == 0 then redis.call('HDEL', use, 'requests', 'tokens') end
end

local function look(use)
    local seen = {requests = 0, tokens = 0, out = 0, first = nil}
    local all = redis.call('HGETALL', use)
    for i = 1, #all, 2 do
        local what, process = string.match(all[i], '^(%a+):?(.*)$')
        local value = all[i + 1]
        if process == '' then seen[what] = tonumber(value)
        elseif not alive(process) then redis.call('HDEL', use, all[i])
        elseif what == 'out' then seen.out = seen.out + tonumber(value)
        elseif process ~= me then
            local since, till = string.match(value, '(%S+) (%S+)')
            since = tonumber(since)
            if tonumber(till) > now and (not seen.first or since < seen.first) then seen.first = since end
        end
    end
    return seen
end

local function tell_the_line(limit, seen)
    if (seen or look(limit.use)).first then redis.call('PUBLISH', batch.channel, limit.name) end
end

-- After how long there is room in the window, if nobody takes any; 0 where there is.
local function free_in(limit, part, seen)
    local surplus = part.tokens_per_minute and seen.tokens + part.tokens - part.tokens_per_minute or 0
    local requests = part.requests_per_minute and seen.requests + 1 - part.requests_per_minute or 0
    local from, at = 0, nil
    while surplus > 0 or requests > 0 do
        local oldest = redis.call('ZRANGE', limit.taken, from, from + 99, 'WITHSCORES')
        if #oldest == 0 then break end
        for i = 1, #oldest, 2 do
            if surplus > 0 or requests > 0 then
                surplus, requests, at = surplus - tokens_of(oldest[i]), requests - 1, tonumber(oldest[i + 1])
            end
        end
        from = from + 100
    end
    return at and math.max(at + 60 - now, 0.001) or 0
end

local limits = {}
for i, name in ipairs(batch.names) do
    limits[name] = {name = name, use = KEYS[2 * i + 2], taken = KEYS[2 * i + 3]}
end

local does = {}

function does.take(op)
    local since = now - op.waited_seconds
    local lacking, looked = {}, {}
    for i, part in ipairs(op.parts) do
        local limit = limits[part.limit]
        forget(limit.use, limit.taken)
        local seen = look(limit.use)
        looked[i] = seen
        if (part.concurrency and seen.out >= part.concurrency) or (seen.first and seen.first < since) then
            lacking[#lacking + 1] = {part.limit, -1}
        else
            local seconds = free_in(limit, part, seen)
            if seconds > 0 then lacking[#lacking + 1] = {part.limit, seconds} end
        end
    end
    if #lacking > 0 then
        if op.in_line then
            for _, each in ipairs(lacking) do
                local till = now + math.max(each[2], 0) + batch.line_seconds
                redis.call('HSET', limits[each[1]].use, 'line:' .. me, string.format('%.6f %.6f', since, till))
            end
        end
        return lacking
    end
    for i, part in ipairs(op.parts) do
        local limit = limits[part.limit]
        redis.call('HINCRBY', limit.use, 'out:' .. me, 1)
        redis.call('HDEL', limit.use, 'line:' .. me)
        if part.requests_per_minute or part.tokens_per_minute then
            redis.call('ZADD', limit.taken, now, part.member)
            count(limit.use, 1, part.tokens)
        end
        keep(limit.use, limit.taken)
        if not part.concurrency or looked[i].out + 1 < part.concurrency then tell_the_line(limit, looked[i]) end
    end
    return 1
end

-- It was decided alone, while all was told anew.
function does.hold(op)
    local limit = limits[op.limit]
    redis.call('HINCRBY', limit.use, 'out:' .. me, 1)
    if op.window then
        redis.call('ZADD', limit.taken, now, op.member)
        count(limit.use, 1, tokens_of(op.member))
    end
    keep(limit.use, limit.taken)
end

-- What was taken turned out to be something else, or nothing at all.
local function recount(limit, op)
    local at = redis.call('ZSCORE', limit.taken, op.member)
    if not at then return end
    redis.call('ZREM', limit.taken, op.member)
    if op.unused then
        count(limit.use, -1, -tokens_of(op.member))
    else
        redis.call('ZADD', limit.taken, at, op.settled)
        count(limit.use, 0, tokens_of(op.settled) - tokens_of(op.member))
    end
end

function does.give_back(op)
    local limit = limits[op.limit]
    if redis.call('HINCRBY', limit.use, 'out:' .. me, -1) <= 0 then redis.call('HDEL', limit.use, 'out:' .. me) end
    if op.unused or op.settled then recount(limit, op) end
    tell_the_line(limit)
end

function does.leave(op)
    local limit = limits[op.limit]
    if redis.call('HDEL', limit.use, 'line:' .. me) > 0 then tell_the_line(limit) end
end

function does.restate(op)
    local limit = limits[op.limit]
    for _, member in ipairs(redis.call('ZRANGE', limit.taken, 0, -1)) do
        if string.sub(member, 1, #me + 1) == me .. ':' then
            redis.call('ZREM', limit.taken, member)
            count(limit.use, -1, -tokens_of(member))
        end
    end
    for _, each in ipairs(op.taken) do
        if redis.call('ZADD', limit.taken, now - each[2], each[1]) == 1 then count(limit.use, 1, tokens_of(each[1])) end
    end
    redis.call('HDEL', limit.use, 'line:' .. me)
    if op.out > 0 then redis.call('HSET', limit.use, 'out:' .. me, op.out)
    else redis.call('HDEL', limit.use, 'out:' .. me) end
    keep(limit.use, limit.taken)
end

local results = {}
for i, op in ipairs(batch.ops) do results[i] = does[op.does](op) or 0 end
return cjson.encode({life = life, results = results, processes = redis.call('ZCOUNT', KEYS[1], now, '+inf')})
