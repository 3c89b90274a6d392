-- Reclaim expired leases, the longest expired first. a: lapses (allowed, crashes counted with them), limit.
-- Returns the jobs given back, those that lapsed once too often (still owned, to be failed), and how many leases it
-- looked at: as many as the limit where there may be more.

-- Whether a stranger took a job from its owner: whom key.OWNER names has no lease on it.
local function orphaned(job)
  local owner = claim.owner(job)
  if owner and redis.call('ZSCORE', key.LEASES, job .. ':' .. owner) then return false end
  return claim.status(job) == 'started'
end

local back, blamed = {}, {}
local expired = redis.call('ZRANGEBYSCORE', key.LEASES, '-inf', claim.now, 'LIMIT', 0, a.limit)
for _, member in ipairs(expired) do
  local job, execution = string.match(member, '^(.*):([^:]+)$')
  local record = job and redis.call('HMGET', key.ACCOUNT(job, execution), 'lane', 'worker') or {}
  if job and not record[1] then record = redis.pcall('HMGET', key.EXECUTION(job, execution), 'lane', 'worker_name') end
  local lane, worker = record[1], record[2] or ''
  if job and not (lane and guard.parts(lane)) then
    lane = claim.status(job) == 'started' and guard.field(job, 'origin', 256)
  end
  if lane and not guard.parts(lane) then lane = nil end -- forged
  if lane and orphaned(job) then redis.call('SET', key.OWNER(job), execution) end
  if not lane then
    redis.call('ZREM', key.LEASES, member)
  elseif not claim.holds(job, execution) then
    claim.drop(job, execution, lane, worker)
  elseif claim.crash(job, execution, lane, worker, 'kiln_lapses', claim.lives(job), a.lapses) == 'back' then
    back[#back + 1] = job
  else
    blamed[#blamed + 1] = { job, execution, lane, worker }
  end
end
return { back, blamed, #expired }
