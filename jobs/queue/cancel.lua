-- End jobs as cancelled, wherever they are. a: jobs (ids), client or '' for any, stamp, days to keep the records.
-- Returns per job what it was: 'queued', 'started', an end it had reached already, 'unknown' or 'foreign'.

local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local keep = a.days * guard.DAY
local told = {} -- lanes, to takes
local ENDED = { finished = true, failed = true, canceled = true, stopped = true }

-- Nobody's from here on. The execution's lease and record stay: whoever renders or delivers the job finds within a
-- beat that it is not his any more, and takes back what its client was charged beyond the time spent; where he is
-- gone, the reaper does. Producers may not write clocks.
local function disown(job, lane)
  local execution = guard.owner(job)
  if not execution then return end
  redis.pcall('ZREM', key.STARTED(lane), job .. ':' .. execution)
  redis.pcall('ZREM', key.EXECUTIONS(job), execution)
  redis.call('UNLINK', key.OWNER(job))
  redis.pcall('PUBLISH', key.CALLS, 'job:' .. job)
end

-- Strike off those whose records are gone. RQ lists what it cancels with the score of that moment, and for good, so
-- a score that is past says only whom to look at: two at a cancel, which adds one.
local function forget(lane)
  for _, job in ipairs(redis.pcall('ZRANGEBYSCORE', key.CANCELED(lane), '-inf', now, 'LIMIT', 0, 2)) do
    if guard.field(job, 'status', 32) == 'canceled' then
      redis.call('ZADD', key.CANCELED(lane), now + keep, job)
    else
      redis.call('ZREM', key.CANCELED(lane), job)
    end
  end
end

local function cancel(job, lane, status)
  guard.strike(lane, job)
  local home = guard.home(lane)
  redis.call('HSET', key.JOB(job), 'status', 'canceled', 'ended_at', a.stamp, 'origin', home)
  redis.call('EXPIRE', key.JOB(job), keep)
  forget(home)
  redis.pcall('ZADD', key.CANCELED(home), math.floor(now) + keep, job)
  redis.pcall('ZREM', key.DEFERRED(lane), job)
  redis.pcall('ZREM', key.SCHEDULED(lane), job)
  disown(job, lane)
  redis.pcall('XADD', key.ENDS, 'NOMKSTREAM', 'MAXLEN', '~', 10000, '*', 'job', job) -- where a worker tells of ends
  -- What is first in the lane now may be older than what was.
  if status ~= 'started' and not told[lane] then
    guard.mail(lane)
    told[lane] = true
  end
end

local answers = {}
for i, job in ipairs(a.jobs) do
  local there = redis.call('TYPE', key.JOB(job)).ok == 'hash'
  local status = there and guard.field(job, 'status', 32)
  if status == '' then status = 'queued' end
  local lane = there and guard.field(job, 'origin', 1024) or ''
  local _, _, client = guard.parts(lane)
  if not status or not client then -- not there, or another application's
    answers[i] = 'unknown'
  elseif a.client ~= '' and client ~= a.client then
    answers[i] = 'foreign'
  else
    if not ENDED[status] then cancel(job, lane, status) end
    answers[i] = (ENDED[status] or status == 'started') and status or 'queued'
  end
end
return answers
