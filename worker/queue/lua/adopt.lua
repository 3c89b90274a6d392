-- A picture of the job lies spooled: may that execution go on? a: job, execution, lane, worker, stamp, lease, cost:
-- the GPU seconds that went into it.
-- Returns the job as claim.describe does where it is owned, 'gone', or the job's status: that execution is over.

local status = claim.status(a.job)
local there = status == 'queued' and guard.field(a.job, 'origin', 256)
if not there or guard.home(there) ~= a.lane then there = a.lane end -- it may have been left to larger workers since
if redis.call('ZSCORE', key.LEASES, a.job .. ':' .. a.execution) then claim.reown(a.job, a.execution) end
local ours = claim.holds(a.job, a.execution)
if ours or status == 'queued' then
  if not ours then guard.strike(there, a.job) end
  claim.charge(a.job, a.execution, 0) -- what stands of an earlier life
  claim.own(a.job, a.execution, a.lane, { worker = a.worker, stamp = a.stamp, lease = a.lease, estimate = 0 })
  claim.told({ job = a.job, execution = a.execution, cost = a.cost, handed = true })
  return claim.describe(a.job, a.execution)
end
claim.drop(a.job, a.execution, a.lane, a.worker)
return status or 'gone'
