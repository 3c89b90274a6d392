-- Reclaim expired leases, the longest expired first. a: lapses (allowed, crashes counted with them), limit; expected:
-- what this server's clock should say, within `step` seconds, where the caller knows. If it was set just now, nothing
-- is reclaimed, so that the living can renew first.
-- Returns the jobs given back, those that lapsed once too often (still owned, to be failed), and how many leases it
-- looked at: as many as the limit where there may be more.

local LONGEST = 60 -- seconds that no lease is as long as: those of claims.py and of claim.crash are half of it

if a.expected and math.abs(claim.now - a.expected) > a.step then return { {}, {}, 0 } end
local back, blamed = {}, {}
local expired = redis.call('ZRANGEBYSCORE', key.LEASES, '-inf', claim.now, 'LIMIT', 0, a.limit)
-- From before the clock was set back; the living have renewed theirs since.
local ahead = { claim.now + LONGEST, '+inf', 'LIMIT', 0, a.limit - #expired }
for _, member in ipairs(redis.call('ZRANGEBYSCORE', key.LEASES, unpack(ahead))) do expired[#expired + 1] = member end
for _, member in ipairs(expired) do
  local job, execution = string.match(member, '^(.*):([^:]+)$')
  local record = job and redis.call('HMGET', key.ACCOUNT(job, execution), 'lane', 'worker') or {}
  local lane, worker = record[1], record[2] or ''
  if job and not lane then -- of a worker of version 0.1
    lane = guard.short(key.EXECUTION(job, execution), 'lane', 1024)
    worker = guard.short(key.EXECUTION(job, execution), 'worker_name', 256) or ''
  end
  if job and not (lane and guard.parts(lane)) then
    lane = claim.status(job) == 'started' and guard.field(job, 'origin', 256)
  end
  if lane and not guard.parts(lane) then lane = nil end -- forged
  if lane then claim.reown(job, execution) end
  if not lane then
    redis.call('ZREM', key.LEASES, member)
  elseif not claim.holds(job, execution) then
    claim.drop(job, execution, lane, worker)
  elseif claim.crash(job, execution, lane, worker, 'lapses', claim.lives(job), a.lapses) == 'back' then
    back[#back + 1] = job
  else
    blamed[#blamed + 1] = { job, execution, lane, worker }
  end
end
return { back, blamed, #expired }
