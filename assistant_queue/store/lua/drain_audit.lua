-- Event `drain_audit`: a worker takes entries of the audit's spool, for its database; those that it
-- has written are removed.
-- KEYS: audit auditing
-- ARGV: now token written limit chars lease_ms
-- Returns {'ok', number of the first entry, lost entries, entry, ...}
--         {'held'}: another worker drains; nothing has changed
-- written: the number of the first entry that is not written. Entries are numbered as they are
-- removed: a late copy finds a higher number, and removes nothing. chars: of all entries but the
-- first. lease_ms: 0 gives the lease back.
--! include common
local state = redis.call('HMGET', key.auditing, 'token', 'until', 'head', 'lost')
local lease_ms = tonumber(arg.lease_ms)
-- Chosen: longer than any lease.
local longest_ms = 600000
local until_ms = tonumber(state[2] or '') or 0
-- A lease that ends later than any can was written before the clock was set back.
if state[1] and state[1] ~= arg.token and until_ms > now
    and until_ms - now <= longest_ms then
  return {'held'}
end
local head = tonumber(state[3] or '') or 0
if state[1] == arg.token and tonumber(arg.written) > head then
  local count = math.min(tonumber(arg.written) - head, redis.call('LLEN', key.audit))
  redis.call('LTRIM', key.audit, count, -1)
  head = head + count
end
redis.call('HSET', key.auditing,
  'token', arg.token, 'until', ms(now + lease_ms), 'head', ms(head))
local reply = {'ok', ms(head), state[4] or '0'}
local chars = 0
for _, entry in ipairs(redis.call('LRANGE', key.audit, 0, tonumber(arg.limit) - 1)) do
  chars = chars + #entry
  if chars > tonumber(arg.chars) and #reply > 3 then break end
  reply[#reply + 1] = entry
end
return reply
