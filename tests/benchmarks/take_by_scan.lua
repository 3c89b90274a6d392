-- The script of version 0.1, which looked at every lane at each take: for tests/benchmarks/take.py, and for tests of
-- workers of two versions in one farm. Not part of the product.

-- Who owns a job, decided on the server in one step. ARGV[1] names the operation; the rest are its arguments.
--
-- kiln:own:<job>      the execution that owns the job; only take, adopt, release, reap (and settling) change it
-- kiln:leases         sorted set <job>:<execution> by the server time at which the lease runs out
-- kiln:taken:<exec>   the job an execution took, so that a take repeated after a lost reply finds it again
-- kiln:clocks         hash client -> GPU seconds it was given; kiln:now is the clock of the last job taken
-- kiln:orders         hash of signed orders, which this script hands out unread; kiln:orders:serial names their state
--
-- The rest are RQ's own records in RQ's own form, so that its tools show what happens. No key is declared:
-- scripts that look for the best of many lanes cannot name them, and a farm's Redis is one server.

local DAY = 86400
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

-- A key that became another type is worth less than the farm's going on.
local function become(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end

become('kiln:leases', 'zset')
become('kiln:clocks', 'hash')
become('kiln:now', 'string')

-- A producer may have written anything under RQ's keys, so reads of them take no type and no size for granted.
local function field_of(job, field, longest)
  local size = redis.pcall('HSTRLEN', 'rq:job:' .. job, field)
  if type(size) ~= 'number' then return nil end
  return size > 0 and size <= longest and redis.call('HGET', 'rq:job:' .. job, field) or ''
end

local function status_of(job)
  local status = field_of(job, 'status', 32)
  if status ~= '' then return status end -- nil where the record is none
  return redis.call('EXISTS', 'rq:job:' .. job) == 1 and 'queued' or nil -- taken, to be failed with a reason
end

local function number_at(key, field)
  local number = tonumber(redis.call('HGET', key, field) or '0') or 0
  return number >= 0 and number < 2 ^ 53 and number or 0 -- not a NaN, nor what a producer forged below zero
end

local function lane_parts(lane)
  return string.match(lane, '^kiln:([^:]+:[^:]+):([^:]+):([^:]+)$')
end

local function ring(lane)
  local bell = 'kiln:bell:' .. (string.match(lane, '^kiln:([^:]+):') or '')
  redis.pcall('LPUSH', bell, '1')
  redis.pcall('LTRIM', bell, 0, 63)
end

local function owner_of(job)
  local owner = redis.pcall('GET', 'kiln:own:' .. job)
  return type(owner) == 'string' and owner or nil
end

-- An execution that ends without a settlement costs its client nothing.
local function refund(job, execution, lane)
  local estimate = tonumber(redis.pcall('HGET', 'rq:execution:' .. job .. ':' .. execution, 'estimate') or '0') or 0
  local _, _, client = lane_parts(lane)
  if client and estimate > 0 and estimate < 2 ^ 53 then
    redis.pcall('HINCRBYFLOAT', 'kiln:clocks', client, -estimate)
  end
end

-- Forget an execution: its charge, its lease, its ownership and RQ's records of it.
-- The worker that it names counts, where it names one: another may do this in its place.
local function drop(job, execution, lane, worker)
  refund(job, execution, lane)
  local named = redis.pcall('HGET', 'rq:execution:' .. job .. ':' .. execution, 'worker_name')
  worker = type(named) == 'string' and named or worker
  redis.call('ZREM', 'kiln:leases', job .. ':' .. execution)
  redis.call('DEL', 'rq:execution:' .. job .. ':' .. execution)
  redis.pcall('ZREM', 'rq:wip:' .. lane, job .. ':' .. execution)
  redis.pcall('ZREM', 'rq:executions:' .. job, execution)
  redis.pcall('SREM', 'rq:worker:' .. worker .. ':executions', job .. ':' .. execution)
  if owner_of(job) == execution then redis.call('DEL', 'kiln:own:' .. job) end
end

local function count_up(job, field)
  redis.call('HSET', 'rq:job:' .. job, field, number_at('rq:job:' .. job, field) + 1)
end

local function own(job, execution, lane, worker, stamp, lease, estimate)
  local before = owner_of(job)
  if before then drop(job, before, lane, '') end
  local member = job .. ':' .. execution
  for _, registry in ipairs({ 'ready', 'wip', 'finished', 'failed' }) do
    become('rq:' .. registry .. ':' .. lane, 'zset') -- else this job's end, and who waits for it, were not noted
  end
  redis.call('SET', 'kiln:own:' .. job, execution)
  redis.call('ZADD', 'kiln:leases', now + lease, member)
  redis.call('HSET', 'rq:job:' .. job, 'status', 'started', 'started_at', stamp, 'last_heartbeat', stamp,
    'worker_name', worker, 'ended_at', '', 'origin', lane)
  redis.call('PERSIST', 'rq:job:' .. job)
  -- No expiry: after days off, reap reads the lane.
  redis.call('HSET', 'rq:execution:' .. member, 'id', execution, 'job_id', job, 'created_at', now,
    'last_heartbeat', now, 'worker_name', worker, 'lane', lane, 'estimate', estimate)
  redis.pcall('ZADD', 'rq:executions:' .. job, now + DAY, execution)
  redis.pcall('EXPIRE', 'rq:executions:' .. job, DAY)
  redis.pcall('ZADD', 'rq:wip:' .. lane, now + DAY, member)
  redis.pcall('SADD', 'rq:worker:' .. worker .. ':executions', member)
  redis.pcall('EXPIRE', 'rq:worker:' .. worker .. ':executions', DAY)
end

-- Back to the front of its lane. What took it from its worker is counted in a field; good order is in none.
local function give_back(job, execution, lane, worker, field)
  drop(job, execution, lane, worker)
  redis.call('HSET', 'rq:job:' .. job, 'status', 'queued', 'started_at', '', 'worker_name', '')
  redis.call('HDEL', 'rq:job:' .. job, 'meta')
  if field then count_up(job, field) end
  become('rq:queue:' .. lane, 'list')
  redis.call('LPUSH', 'rq:queue:' .. lane, job)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. lane)
  ring(lane)
end

-- A picture that only waited for storage takes no worker down.
local function delivering(job)
  local progress = redis.call('HGET', 'rq:job:' .. job, 'meta')
  return progress and string.find(progress, '"delivering"', 1, true) ~= nil
end

local function lives(job) -- those it cost, proven or not
  return number_at('rq:job:' .. job, 'kiln_crashes') + number_at('rq:job:' .. job, 'kiln_lapses')
end

-- Its worker died (kiln_crashes) or fell silent (kiln_lapses): back it goes, unless that was once too often,
-- with those `before`. Then it stays owned, to be failed.
local function crash(job, execution, lane, worker, field, before, allowed)
  if delivering(job) then
    give_back(job, execution, lane, worker)
    return 'back'
  end
  if before + 1 < allowed then
    give_back(job, execution, lane, worker, field)
    return 'back'
  end
  count_up(job, field)
  redis.call('ZADD', 'kiln:leases', now + 30, job .. ':' .. execution)
  return 'blamed'
end

local function holds(job, execution)
  return owner_of(job) == execution and status_of(job) == 'started'
end

local function describe(job, execution)
  local lane = redis.call('HGET', 'rq:execution:' .. job .. ':' .. execution, 'lane')
  local data = string.rep('[', 131073) -- as good as what is longer: it is refused for that
  if redis.call('HSTRLEN', 'rq:job:' .. job, 'data') < #data then
    data = redis.call('HGET', 'rq:job:' .. job, 'data') or ''
  end
  return { job, lane, data, field_of(job, 'enqueued_at', 64), number_at('rq:job:' .. job, 'kiln_attempts'), lives(job) }
end

-- RQ's states of a job that waits for something else than a worker, or for nothing any more.
local ELSEWHERE = {}
for status in string.gmatch('finished failed canceled stopped created deferred scheduled ready_to_enqueue', '%S+') do
  ELSEWHERE[status] = true
end

-- A status that is none of RQ's, or says started where nobody owns the job, is forged: let its spec be judged.
local function takeable(job, status)
  return status and not ELSEWHERE[status] and not (status == 'started' and owner_of(job))
end

-- Whether the job belongs in another lane, where it is put unless it is there: an id is easily pushed into one's own.
local function strayed(job, lane)
  local home = field_of(job, 'origin', 256)
  if home == lane or not lane_parts(home) then return false end
  become('rq:queue:' .. home, 'list')
  if not redis.call('LPOS', 'rq:queue:' .. home, job, 'MAXLEN', 1000) then
    redis.call('RPUSH', 'rq:queue:' .. home, job)
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. home)
  end
  return true
end

-- Whether a worker with less memory left the job to those with more; see operation.leave.
local function left_by_less(job, memory)
  local needed, till = string.match(field_of(job, 'kiln_needs', 64), '^(%d+) (%d+)$')
  return needed and tonumber(needed) > memory and tonumber(till) > now and tonumber(till) < now + DAY
end

local drops = 5000 -- ids without a job that one call drops; `more` says that there may be others
local more = false

-- The first id of a lane that may be taken with that memory; what may not at all is dropped on the way.
local function head(lane, memory)
  local at = 0
  while at < 1000 do
    local job = redis.call('LINDEX', 'rq:queue:' .. lane, at)
    if not job then return nil end
    local waits = #job <= 1024 and takeable(job, status_of(job))
    local sound = #job <= 64 and string.find(job, '^%w[%w_-]*$')
    local away = waits and strayed(job, lane)
    local good = waits and sound and not away
    if good and not left_by_less(job, memory) then return job end
    if good then
      at = at + 1
    elseif drops == 0 then
      more = true
      return nil
    else
      drops = drops - 1
      redis.call('LREM', 'rq:queue:' .. lane, 1, job)
      if waits and not away then -- an id that could not be a key or a file name: failed here, touched by nobody
        redis.call('HSET', 'rq:job:' .. job, 'status', 'failed')
        redis.pcall('ZADD', 'rq:failed:' .. lane, now + 30 * DAY, job)
      end
    end
  end
  return nil
end

local LANES = 10000 -- that one call looks at

-- The names of all queues; of more than LANES, others at each call, and those of nothing are struck off.
local function queues()
  if redis.call('SCARD', 'rq:queues') <= LANES then return redis.call('SMEMBERS', 'rq:queues') end
  more = true
  local some = redis.call('SRANDMEMBER', 'rq:queues', LANES)
  for _, key in ipairs(some) do
    local held = 0
    local name = #key <= 1024 and string.match(key, '^rq:queue:(.*)$')
    if name then
      local keys = { key }
      for _, registry in ipairs({ 'wip', 'finished', 'failed', 'deferred', 'scheduled', 'canceled', 'ready' }) do
        keys[#keys + 1] = 'rq:' .. registry .. ':' .. name
      end
      held = redis.call('EXISTS', unpack(keys))
    end
    if held == 0 then redis.call('SREM', 'rq:queues', key) end
  end
  return some
end

local function serial_of_orders()
  local serial = redis.pcall('GET', 'kiln:orders:serial')
  return type(serial) == 'string' and #serial <= 64 and serial or ''
end

local RANK = { high = 0, normal = 1, low = 2 }
local operation = {}

-- longest order, most orders: the serial, then names and orders; 'many' where there are more
function operation.orders(a)
  local answer = { serial_of_orders() }
  if redis.call('TYPE', 'kiln:orders').ok ~= 'hash' then return answer end
  if redis.call('HLEN', 'kiln:orders') > tonumber(a[2]) then return 'many' end
  for _, field in ipairs(redis.call('HKEYS', 'kiln:orders')) do
    if #field <= 128 and redis.call('HSTRLEN', 'kiln:orders', field) <= tonumber(a[1]) then
      answer[#answer + 1] = field
      answer[#answer + 1] = redis.call('HGET', 'kiln:orders', field)
    end
  end
  return answer
end

-- execution, worker, stamp, lease, estimate, stale stamp, resident 'model:quantization', the worker's memory in
-- bytes, serial of the orders that it knows or '-' if it obeys none, number of paused clients, these, then the
-- kinds served.
-- 'orders' where there are others by now, 'more' where it has not seen all lanes.
function operation.take(a)
  local execution, worker, stamp, lease = a[1], a[2], a[3], tonumber(a[4])
  local estimate, stale, resident, memory = tonumber(a[5]), a[6], a[7], tonumber(a[8])
  local earlier = redis.call('GET', 'kiln:taken:' .. execution)
  if earlier then
    if holds(earlier, execution) then return describe(earlier, execution) end
    return false
  end
  if a[9] ~= '-' and a[9] ~= serial_of_orders() then return 'orders' end
  local paused, served, first = {}, {}, 11 + tonumber(a[10])
  for i = 11, first - 1 do paused[a[i]] = true end
  for i = first, #a do served[a[i]] = true end
  local floor = tonumber(redis.call('GET', 'kiln:now') or '0') or 0
  if not (floor >= 0 and floor < 2 ^ 53) then floor = 0 end
  local best
  for _, key in ipairs(queues()) do
    local lane = string.match(key, '^rq:queue:(kiln:.*)$')
    local kind, priority, client
    if #key > 1024 then redis.call('SREM', 'rq:queues', key) end -- no lane's name is, and each take would read it
    if lane then kind, priority, client = lane_parts(lane) end
    if kind and served[kind] and not paused[client] and redis.call('TYPE', key).ok == 'list' then
      local job = head(lane, memory)
      if job then
        -- Start-time fair queueing: a client that was away is not owed the time it did not ask for.
        -- Nor is anyone ever a day ahead: that is forged.
        local clock = math.max(number_at('kiln:clocks', client), floor)
        if clock > floor + DAY then clock = floor end
        local since = field_of(job, 'enqueued_at', 64)
        local class = since < stale and 0 or (kind == resident and 1 or 2)
        local this = { RANK[priority] or 3, clock, class, since, lane, job, client }
        local better = not best
        if best then
          for i = 1, 5 do
            if this[i] ~= best[i] then
              better = this[i] < best[i]
              break
            end
          end
        end
        if better then best = this end
      end
    end
  end
  if not best then
    for kind in pairs(served) do become('kiln:bell:' .. string.match(kind, '^[^:]*'), 'list') end
    return more and 'more'
  end
  local clock, lane, job, client = best[2], best[5], best[6], best[7]
  redis.call('LREM', 'rq:queue:' .. lane, 1, job)
  own(job, execution, lane, worker, stamp, lease, estimate)
  count_up(job, 'kiln_attempts')
  redis.call('SET', 'kiln:taken:' .. execution, job, 'EX', 3600)
  redis.call('SET', 'kiln:now', clock)
  redis.call('HSET', 'kiln:clocks', client, clock + estimate)
  return describe(job, execution)
end

-- worker, stamp, lease, then job, execution, lane, progress ('' where unchanged): the executions no longer owned
function operation.renew(a)
  local lost = {}
  local stamp, lease = a[2], tonumber(a[3])
  for i = 4, #a, 4 do
    local job, execution, lane, progress = a[i], a[i + 1], a[i + 2], a[i + 3]
    local member = job .. ':' .. execution
    if holds(job, execution) then
      redis.call('ZADD', 'kiln:leases', now + lease, member)
      redis.pcall('ZADD', 'rq:wip:' .. lane, now + DAY, member)
      redis.call('HSET', 'rq:job:' .. job, 'last_heartbeat', stamp)
      if progress ~= '' then redis.call('HSET', 'rq:job:' .. job, 'meta', progress) end
    else
      -- RQ's own cancel leaves the ownership behind.
      if owner_of(job) == execution then drop(job, execution, lane, a[1]) end
      lost[#lost + 1] = execution
    end
  end
  return lost
end

-- Whether a stranger took a job from its owner: whom kiln:own names has no execution of it.
local function orphaned(job)
  local owner = owner_of(job)
  if owner and redis.call('EXISTS', 'rq:execution:' .. job .. ':' .. owner) == 1 then return false end
  return status_of(job) == 'started'
end

-- job, execution, lane, worker, crashes allowed or '' where nothing crashed: 'back', 'blamed' or 'lost'
function operation.release(a)
  local job, execution, lane, worker = a[1], a[2], a[3], a[4]
  if not holds(job, execution) then return 'lost' end
  if a[5] == '' then
    give_back(job, execution, lane, worker)
    return 'back'
  end
  local crashes = number_at('rq:job:' .. job, 'kiln_crashes')
  return crash(job, execution, lane, worker, 'kiln_crashes', crashes, tonumber(a[5]))
end

-- job, execution, lane, worker, kind, bytes needed, seconds: where a worker lives that serves the kind and has as
-- much, leave the job to such for so long: 'back', else 'alone' and it stays ours, or 'lost'
function operation.leave(a)
  local job, execution, lane, worker, kind, needed = a[1], a[2], a[3], a[4], a[5], tonumber(a[6])
  if not holds(job, execution) then return 'lost' end
  for _, key in ipairs(redis.pcall('SRANDMEMBER', 'rq:workers', 1000)) do
    local record = redis.pcall('HMGET', key, 'queues', 'kiln_memory')
    local serves, memory = ',' .. tostring(record[1] or '') .. ',', tonumber(record[2] or '') or 0
    if memory >= needed and string.find(serves, ',' .. kind .. ',', 1, true) then
      give_back(job, execution, lane, worker)
      redis.call('LMOVE', 'rq:queue:' .. lane, 'rq:queue:' .. lane, 'LEFT', 'RIGHT') -- out of the way of smaller ones
      redis.call('HSET', 'rq:job:' .. job, 'kiln_attempts', math.max(0, number_at('rq:job:' .. job, 'kiln_attempts') - 1))
      redis.call('HSET', 'rq:job:' .. job, 'kiln_needs', a[6] .. ' ' .. string.format('%d', now + tonumber(a[7])))
      return 'back'
    end
  end
  return 'alone'
end

-- job, execution, lane, worker, stamp, lease: a picture of it lies spooled; may that execution go on?
-- What it cost is known by now and charged when it is settled, so no estimate stands for it.
function operation.adopt(a)
  local job, execution, lane = a[1], a[2], a[3]
  local status = status_of(job)
  if not status then return 'gone' end
  if holds(job, execution) then
    own(job, execution, lane, a[4], a[5], tonumber(a[6]), 0)
    return 'owned'
  end
  if status == 'queued' and redis.call('LREM', 'rq:queue:' .. lane, 0, job) > 0 then
    own(job, execution, lane, a[4], a[5], tonumber(a[6]), 0)
    return 'owned'
  end
  return status
end

-- lapses allowed, crashes counted with them: jobs given back, and those that lapsed once too often, still owned
function operation.reap(a)
  local back, blamed = {}, {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'kiln:leases', '-inf', now, 'LIMIT', 0, 10000)) do
    local job, execution = string.match(member, '^(.*):([^:]+)$')
    local record = job and redis.pcall('HMGET', 'rq:execution:' .. member, 'lane', 'worker_name') or {}
    local lane, worker = record[1], record[2] or ''
    if job and not (lane and lane_parts(lane)) then lane = status_of(job) == 'started' and field_of(job, 'origin', 256) end
    if lane and not lane_parts(lane) then lane = nil end -- forged
    if lane and orphaned(job) then redis.call('SET', 'kiln:own:' .. job, execution) end
    if #back + #blamed == 1000 then
      break
    elseif not lane then
      redis.call('ZREM', 'kiln:leases', member)
    elseif not holds(job, execution) then
      drop(job, execution, lane, worker)
    elseif crash(job, execution, lane, worker, 'kiln_lapses', lives(job), tonumber(a[1])) == 'back' then
      back[#back + 1] = job
    else
      blamed[#blamed + 1] = { job, execution, lane, worker }
    end
  end
  return { back, blamed }
end

return operation[ARGV[1]]({ unpack(ARGV, 2) })
