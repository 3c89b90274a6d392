-- Prolong leases and publish progress. a: worker, stamp, lease, held: of each job, execution, lane, and where there is
-- news progress and what claim.told takes. Returns the executions that own their job no more.

local lost = {}
for _, one in ipairs(a.held) do
  local member = one.job .. ':' .. one.execution
  claim.told(one)
  if redis.call('ZSCORE', key.LEASES, member) then claim.reown(one.job, one.execution) end
  if claim.holds(one.job, one.execution) then
    redis.call('ZADD', key.LEASES, claim.now + a.lease, member)
    redis.pcall('ZADD', key.STARTED(one.lane), claim.now + guard.DAY, member)
    redis.call('HSET', key.JOB(one.job), 'last_heartbeat', a.stamp)
    if one.progress then redis.call('HSET', key.JOB(one.job), 'meta', one.progress) end
  else
    -- A cancel leaves what the execution held behind: RQ's own all of it, ours its lease and its account.
    if guard.owner(one.job) == one.execution or redis.call('EXISTS', key.ACCOUNT(one.job, one.execution)) == 1 then
      claim.drop(one.job, one.execution, one.lane, a.worker)
    end
    lost[#lost + 1] = one.execution
  end
end
return lost
