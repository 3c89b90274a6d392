-- Where jobs wait, by the order they are taken in, so that a take looks at a few lanes however many there are.
--
-- RQ's lists and records say what is true. All that stands here is derived from them, written by workers alone (but
-- for the mail), and checked against them whenever it is used: a lane that is not where it should be is put there,
-- so what is stale costs a look, and what is missing is found when the queues are looked through (look.lua).
--
-- A group is a kind ('demo:bf16'), or a kind and a size of jobs left to larger workers ('demo:bf16>17179869184', see
-- leave.lua). In a group and a priority lanes are told apart by client; those of forged priorities share 'odd' and
-- are told apart by '<priority>:<client>'.
--
-- key.LEVEL(group, priority)  client -> when its first job was enqueued: clients whose clock is at the floor
-- key.AHEAD(group, priority)  client -> clock: those above it. A client whose jobs wait is in one of the two.
-- key.KINDS                   groups -> when they were last served or made: no others are indexed, so that a clock
--                             that changes touches few sets. look.lua forgets those long unused.
-- key.MAIL                    lanes that something was put into or taken from: submit, give-back, cancel, dependents
-- key.MOVED                   clients whose clock a settlement or a refund changed: who may come earlier is not found
--                             by looking
-- key.DUE                     lane of left jobs -> when its first is looked at anew; its record says so, too
--
-- The floor, key.NOW, is the clock of the last job taken. A client's clock is never below it (start-time fair
-- queueing: who was away is not owed the time it did not ask for), nor a day above: that is forged.
--
-- Equal writes change nothing, and without news nothing is written: each write waits for the disk.

local index = {}

local LOOKS = 400 -- at jobs that one call has: one for each id, or LONG bytes of it; PUT more for each lane; one for
-- each FAR ids among which an id from elsewhere is looked for; one for each group in which a client is put right
local LONG, PUT, FAR = 4096, 3, 100 -- by what they cost: a call of all looks takes about 2 ms
index.behind = false -- whether jobs left may be due that this call did not get to
index.looks = LOOKS -- those left; below 0, the call stops and says that there is more
index.PRIORITIES = { 'high', 'normal', 'low', 'odd' }

local RANKED = { high = true, normal = true, low = true }
local MAILS, MOVES, RETURNS = 60, 32, 20 -- of each, looked at in one call
local DUES = 100 -- looks of a call at jobs left that are due: who finds another job does not wait for these
local LONGEST = 1200 -- seconds that no job is left for: twice as long as they are (claims.py: LEFT)

local number = tonumber(redis.call('GET', key.NOW) or '0') or 0
index.floor = number >= 0 and number < 2 ^ 53 and number or 0

-- A call on a key of the index, anew where the key held the wrong type.
local function on(command, name, ...)
  local answer = redis.pcall(command, name, ...)
  if type(answer) == 'table' and answer.err then
    if string.find(answer.err, 'WRONGTYPE', 1, true) then redis.call('UNLINK', name) end
    return redis.call(command, name, ...)
  end
  return answer
end
index.on = on

index.kinds = {}
for _, group in ipairs(on('ZRANGE', key.KINDS, 0, -1)) do index.kinds[group] = true end

-- Group, priority and member of a lane; nothing where it is none.
function index.place_of(lane)
  local group, priority, client = guard.parts(lane)
  if not group or RANKED[priority] then return group, priority, client end
  return group, 'odd', priority .. ':' .. client
end

function index.lane(group, priority, member)
  return 'kiln:' .. group .. ':' .. (priority == 'odd' and '' or priority .. ':') .. member
end

function index.client(member)
  return string.match(member, '[^:]*$')
end

-- A group's kind, and the bytes of memory its jobs need, 0 where anyone may take them.
function index.kind(group)
  local kind, bytes = string.match(group, '^([^>]*)>(%d+)$')
  return kind or group, tonumber(bytes or '0')
end

function index.clock(client)
  local clock = math.max(claim.number_at(key.CLOCKS, client), index.floor)
  return clock <= index.floor + guard.DAY and clock or index.floor
end

-- When a job was enqueued, in seconds since 1970; nonsense counts as long ago.
local function since(job)
  local text = guard.field(job, 'enqueued_at', 64) or ''
  local iso = '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d%.?%d*)'
  local year, month, day, hour, minute, second = string.match(text, iso)
  if not second then return 0 end
  year, month = tonumber(year), tonumber(month)
  if month <= 2 then year, month = year - 1, month + 12 end
  local days = 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
    + math.floor((153 * month - 457) / 5) + tonumber(day) - 719469
  return ((days * 24 + tonumber(hour)) * 60 + tonumber(minute)) * 60 + tonumber(second)
end

-- RQ's states of a job that waits for something else than a worker, or for nothing any more.
local ELSEWHERE = {}
for status in string.gmatch('finished failed canceled stopped created deferred scheduled ready_to_enqueue', '%S+') do
  ELSEWHERE[status] = true
end

-- A status that is none of RQ's, or says started where nobody owns the job, is forged: let its spec be judged.
local function takeable(job)
  local status = claim.status(job)
  return status and not ELSEWHERE[status] and not (status == 'started' and guard.owner(job))
end

-- Whether the job belongs in another lane, where it is put unless it is there: an id is easily pushed into one's own.
local function strayed(job, lane)
  local home = guard.field(job, 'origin', 256)
  if home == lane or not guard.parts(home) then return false end
  guard.become(key.QUEUE(home), 'list')
  local at = redis.call('LPOS', key.QUEUE(home), job, 'MAXLEN', 1000)
  index.looks = index.looks - math.floor((at or 1000) / FAR)
  if not at then
    redis.call('RPUSH', key.QUEUE(home), job)
    redis.call('SADD', key.QUEUES, key.QUEUE(home))
    guard.mail(home)
  end
  return true
end

-- The first job of a lane; what may not be taken is dropped on the way. False where there is none, nil where there
-- are no looks left to tell.
local function first(lane)
  local queue = key.QUEUE(lane)
  while true do
    index.looks = index.looks - 1
    if index.looks < 0 then return nil end
    local job = redis.pcall('LINDEX', queue, 0)
    if type(job) ~= 'string' then return false end
    index.looks = index.looks - math.floor(#job / LONG)
    local waits = #job <= 1024 and takeable(job)
    local sound = #job <= 64 and string.find(job, '^%w[%w_-]*$')
    local away = waits and strayed(job, lane)
    local later = waits and sound and not away and hours.put_off(lane, job)
    if waits and sound and not away and not later then return job end
    if waits == nil and sound then early.keep(lane, job) end
    redis.call('LTRIM', queue, 1, -1) -- LPOP would answer with the id once more, however long it is
    if waits and not away and not later then -- an id that could not be a key or a file name: failed, touched by nobody
      redis.call('HSET', key.JOB(job), 'status', 'failed')
      redis.pcall('ZADD', key.FAILED(lane), claim.now + 30 * guard.DAY, job)
    end
  end
end

-- When a left job is to be looked at anew; a time that no worker can have written is past: it is forged, or from
-- before the server's clock was set back.
local function till(job)
  local moment = tonumber(string.match(guard.field(job, 'kiln_needs', 64) or '', '^%d+ (%d+%.?%d*)$') or '0')
  return moment < claim.now + LONGEST and moment or 0
end

-- Put a lane where it belongs. Returns its first job and what decides its turn; nil where nothing waits there.
function index.put(group, priority, member)
  local level, ahead = key.LEVEL(group, priority), key.AHEAD(group, priority)
  local lane = index.lane(group, priority, member)
  index.looks = index.looks - PUT
  local job = first(lane)
  if job == false then
    on('ZREM', level, member)
    on('ZREM', ahead, member)
    return nil
  elseif job == nil then -- for the next call to look at
    if not on('ZSCORE', ahead, member) then on('ZADD', level, 'NX', 0, member) end
    return nil
  end
  local found = { group = group, priority = priority, member = member, lane = lane, job = job, since = since(job) }
  found.client = index.client(member)
  found.clock = index.clock(found.client)
  if found.clock <= index.floor then
    on('ZADD', level, found.since, member)
    on('ZREM', ahead, member)
  else
    on('ZADD', ahead, found.clock, member)
    on('ZREM', level, member)
  end
  if string.find(group, '>', 1, true) then on('ZADD', key.DUE, till(job), lane) end
  return found
end

-- Jobs left to larger workers go back to the front of their home lane: the due ones from the front, or, where no
-- worker made their size, all of them from the back, some at a call.
local function send_home(lane, due)
  local home = guard.home(lane)
  guard.become(key.QUEUE(home), 'list')
  for n = 1, RETURNS + 1 do
    local job = redis.pcall('LINDEX', key.QUEUE(lane), due and 0 or -1)
    if type(job) ~= 'string' then
      on('ZREM', key.DUE, lane)
      break
    end
    local moment = due and till(job) or 0
    if moment > claim.now then
      on('ZADD', key.DUE, moment, lane)
      break
    elseif n > RETURNS or index.looks < 0 then
      if not due then guard.mail(lane) end
      break
    end
    index.looks = index.looks - 1 - math.floor(#job / LONG)
    redis.call('LMOVE', key.QUEUE(lane), key.QUEUE(home), due and 'LEFT' or 'RIGHT', 'LEFT')
    if guard.field(job, 'origin', 256) == lane then redis.call('HSET', key.JOB(job), 'origin', home) end
  end
  redis.call('SADD', key.QUEUES, key.QUEUE(home))
end

-- Look at a lane by name. True where a job is found that takes did not know of.
function index.see(lane, known_too)
  if #lane > 1024 then return false end
  local group, priority, member = index.place_of(lane)
  if not group then return false end
  if not index.kinds[group] then
    local kind = index.kind(group)
    if kind == group or not index.kinds[kind] then return false end
    send_home(lane, false)
    lane = guard.home(lane)
    group, priority, member = index.place_of(lane)
  end
  local known = on('ZSCORE', key.LEVEL(group, priority), member) or on('ZSCORE', key.AHEAD(group, priority), member)
  if known and not known_too then return false end
  index.looks = index.looks - early.arrived(lane, index.looks)
  if not known and redis.call('EXISTS', key.QUEUE(lane)) == 0 then return false end
  return index.put(group, priority, member) ~= nil and not known
end

-- Put a client's lanes right whose clock has changed.
function index.rescore(client)
  local clock = index.clock(client)
  for group in pairs(index.kinds) do
    index.looks = index.looks - 1
    for priority in pairs(RANKED) do
      local level, ahead = key.LEVEL(group, priority), key.AHEAD(group, priority)
      if clock <= index.floor then
        if on('ZSCORE', ahead, client) then index.put(group, priority, client) end
      elseif on('ZREM', level, client) == 1 then
        on('ZADD', ahead, clock, client)
      else
        on('ZADD', ahead, 'XX', clock, client)
      end
    end
  end
end

-- Let takes look for these kinds from now on. True where they did not, so that nobody knows where jobs of them wait.
function index.serve(kinds)
  local new = false
  for _, kind in ipairs(kinds) do
    local last = tonumber(on('ZSCORE', key.KINDS, kind) or '0')
    if last < claim.now - 3600 then on('ZADD', key.KINDS, claim.now, kind) end
    new = new or not index.kinds[kind]
    index.kinds[kind] = true
  end
  return new
end

-- Looks for a call that is the last of its take: what the news used up must not keep it from finding a job.
function index.refresh()
  index.looks = LOOKS
end

-- Take from a list of news, while looks are not below `least`. True where there may be more in it.
local function read(list, most, least, see)
  for _ = 1, most do
    if index.looks < least then return true end
    local name = on('RPOP', list)
    if not name then return false end
    index.looks = index.looks - math.floor(#name / LONG)
    see(name)
  end
  return true
end

-- Read the news. 'look' where the queues had better be looked through, 'more' where there is more news.
function index.catch_up()
  if on('LLEN', key.MAIL) > guard.MAILS then -- a flood
    redis.call('UNLINK', key.MAIL)
    return 'look'
  end
  -- Without looks a lane is noted, to be looked at later: what is behind it in the mail need not wait.
  local more = read(key.MAIL, MAILS, -LOOKS, function(lane) index.see(lane, true) end)
  more = read(key.MOVED, MOVES, 0, index.rescore) or more or index.looks < 0
  local left = index.looks
  index.looks = DUES
  for _, lane in ipairs(on('ZRANGEBYSCORE', key.DUE, '-inf', claim.now, 'LIMIT', 0, 4)) do
    index.behind = true
    if index.looks < 0 then break end
    send_home(lane, true)
    index.see(lane, true)
    index.see(guard.home(lane), true)
  end
  index.looks = left - DUES + index.looks
  return more and 'more' or nil
end
