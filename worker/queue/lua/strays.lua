-- Jobs that have ended without a picture, and of which executions ended unsettled: these may have left objects in the
-- bucket, which whoever asks takes away. a: swept (names of jobs that it has looked at), keep: seconds for which late
-- requests are waited for, every: seconds between two looks, most (jobs).
-- Returns the name, client, id and executions of each.
--
-- Only executions are believed that lie here, where no producer writes: a record that says 'canceled' may be forged.

local ENDED = { canceled = true, stopped = true, failed = true }

guard.become(key.STRAYS, 'hash')
guard.become(key.SWEEPS, 'zset')

local function strike(name)
  redis.call('HDEL', key.STRAYS, name)
  redis.call('ZREM', key.SWEEPS, name)
end

-- Seconds since the last of its executions ended, and which they were; nil where none did.
local function known(name)
  local since, executions = string.match(redis.call('HGET', key.STRAYS, name) or '', '^(%S+) (.*)$')
  return since and math.abs(claim.now - tonumber(since)), executions
end

for _, name in ipairs(a.swept) do
  if (known(name) or 0) > a.keep then strike(name) end
end
local due = redis.call('ZRANGEBYSCORE', key.SWEEPS, '-inf', claim.now, 'LIMIT', 0, a.most)
if #due == 0 then -- beyond this, none is put: the server's clock was set back
  due = redis.call('ZRANGEBYSCORE', key.SWEEPS, claim.now + 2 * a.keep, '+inf', 'LIMIT', 0, a.most)
end
local answer = {}
for _, name in ipairs(due) do
  local client, job = string.match(name, '^([^:]*):(.*)$')
  local age, executions = known(name)
  local status = claim.status(job)
  if not age or status == 'finished' or (not status and age > a.keep) then
    strike(name)
  else
    local ended = ENDED[status] and not guard.owner(job)
    redis.call('ZADD', key.SWEEPS, claim.now + (ended and math.min(a.keep, math.max(a.every, age)) or a.every), name)
    if ended then answer[#answer + 1] = { name, client, job, executions } end
  end
end
return answer
