-- Change where jobs stand. a: jobs (ids), verb, client or '' for any, stamp, again.
--   retry: those that ended without a picture wait again, at the end of their lanes; `again`: with one, too
--   hold: those that wait are out of their lanes, until `free` puts them at their end; one that waits for a time
--     waits for it again then (kiln_until)
--   move: those that wait, or are held, get the record's data that follows in ARGV[2] and on, and are in a.priority's
--     lane: the data says so, too
-- Returns per job what it was, in RQ's words, 'held', 'unknown' or 'foreign'; 'queued' where it waits for a time.

local ENDED = { failed = true, canceled = true, stopped = true, finished = a.again }
local told = {} -- lanes of this call, to takes

local function enqueue(job, lane)
  guard.become(key.QUEUE(lane), 'list')
  guard.strike(lane, job) -- a hold may have left it there, far back
  redis.call('SADD', key.QUEUES, key.QUEUE(lane))
  redis.call('RPUSH', key.QUEUE(lane), job)
  local bell = key.BELL(string.match(lane, '^kiln:([^:]+)'))
  guard.become(bell, 'list')
  redis.call('LPUSH', bell, '1')
  redis.call('LTRIM', bell, 0, 63)
  if not told[lane] then guard.mail(lane) end
  told[lane] = true
end

local function retry(job, lane)
  local home = guard.home(lane)
  for _, registry in ipairs({ key.FAILED, key.FINISHED, key.CANCELED }) do
    redis.pcall('ZREM', registry(home), job)
  end
  redis.call('HSET', key.JOB(job), 'status', 'queued', 'enqueued_at', a.stamp, 'started_at', '', 'ended_at', '',
    'worker_name', '', 'origin', home)
  redis.call('HDEL', key.JOB(job), 'meta', 'kiln_error', 'kiln_result', 'kiln_held',
    'kiln_until', 'kiln_suspicious')
  redis.call('PERSIST', key.JOB(job))
  enqueue(job, home)
end

-- What is first in the lane now may be younger than what was; an id that is struck off no more is dropped by a take.
local function hold(job, lane)
  local home = guard.home(lane)
  guard.strike(lane, job)
  local due = redis.pcall('ZSCORE', key.SCHEDULED(lane), job)
  if type(due) == 'string' then
    redis.call('ZREM', key.SCHEDULED(lane), job)
    redis.call('HSET', key.JOB(job), 'kiln_until', due)
  end
  redis.call('HSET', key.JOB(job), 'status', 'deferred', 'kiln_held', '1', 'origin', home)
  guard.become(key.DEFERRED(home), 'zset')
  redis.call('ZADD', key.DEFERRED(home), '+inf', job)
  if not told[lane] then guard.mail(lane) end
  told[lane] = true
end

local function schedule(job, lane, due)
  guard.become(key.SCHEDULED(lane), 'zset')
  redis.call('HSET', key.JOB(job), 'status', 'scheduled')
  redis.call('ZADD', key.SCHEDULED(lane), due, job)
  redis.call('SADD', key.QUEUES, key.QUEUE(lane))
end

local function free(job, lane)
  local due = tonumber(guard.field(job, 'kiln_until', 32) or '')
  redis.pcall('ZREM', key.DEFERRED(lane), job)
  redis.call('HSET', key.JOB(job), 'status', 'queued')
  redis.call('HDEL', key.JOB(job), 'kiln_held', 'kiln_until')
  if due then schedule(job, lane, due) else enqueue(job, lane) end
end

local function move(job, lane, status, data)
  local kind, _, client = guard.parts(guard.home(lane))
  local target = 'kiln:' .. kind .. ':' .. a.priority .. ':' .. client
  if target == lane then return end
  redis.call('HSET', key.JOB(job), 'data', data, 'origin', target)
  if status == 'held' then
    redis.pcall('ZREM', key.DEFERRED(lane), job)
    guard.become(key.DEFERRED(target), 'zset')
    redis.call('ZADD', key.DEFERRED(target), '+inf', job)
    redis.call('SADD', key.QUEUES, key.QUEUE(target))
  elseif status == 'scheduled' then
    local due = redis.pcall('ZSCORE', key.SCHEDULED(lane), job)
    redis.pcall('ZREM', key.SCHEDULED(lane), job)
    if type(due) == 'string' then schedule(job, target, due) end
  else
    guard.strike(lane, job)
    if not told[lane] then guard.mail(lane) end
    enqueue(job, target)
  end
end

local answers = {}
for i, job in ipairs(a.jobs) do
  local there = redis.call('TYPE', key.JOB(job)).ok == 'hash'
  local status = there and guard.field(job, 'status', 32)
  local lane = there and guard.field(job, 'origin', 1024) or ''
  local _, _, client = guard.parts(lane)
  if status == '' then status = 'queued' end
  if status == 'deferred' and guard.field(job, 'kiln_held', 8) == '1' then status = 'held' end
  if not status or not client then
    status = 'unknown'
  elseif a.client ~= '' and client ~= a.client then
    status = 'foreign'
  elseif a.verb == 'retry' and ENDED[status] then
    retry(job, lane)
  elseif a.verb == 'hold' and (status == 'queued' or status == 'scheduled') then
    hold(job, lane)
  elseif a.verb == 'free' and status == 'held' then
    free(job, lane)
  elseif a.verb == 'move' and (status == 'queued' or status == 'held' or status == 'scheduled') then
    move(job, lane, status, ARGV[i + 1])
  end
  answers[i] = status == 'scheduled' and 'queued' or status
end
return answers
