-- The orders in force, as they were signed: nobody has looked at them yet. a: longest (bytes of one), most (of all).
-- Returns the serial and the farm's identity, then names, orders and seals in turn; 'many' where there are more than
-- an admin can have given.

-- Changes nothing, and is a write: a replica, which may have missed the last orders, refuses it.
redis.call('PERSIST', key.ORDERS)
local farm = redis.pcall('GET', key.FARM)
local answer = { claim.serial_of_orders(), type(farm) == 'string' and #farm == 32 and farm or '' }
if redis.call('TYPE', key.ORDERS).ok ~= 'hash' then return answer end
if redis.call('HLEN', key.ORDERS) > a.most then return 'many' end
for _, field in ipairs(redis.call('HKEYS', key.ORDERS)) do
  if #field <= 128 and redis.call('HSTRLEN', key.ORDERS, field) <= a.longest then
    answer[#answer + 1] = field
    answer[#answer + 1] = redis.call('HGET', key.ORDERS, field)
    local seal = redis.pcall('HGET', key.SEALS, field)
    answer[#answer + 1] = type(seal) == 'string' and #seal <= 64 and seal or ''
  end
end
return answer
