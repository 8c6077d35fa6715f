-- Event `listen`: somebody listens to the thread: its stream is there from now on, and lives on.
-- KEYS: events
-- ARGV: now events
-- Returns {'listening', id of the oldest entry, id of the newest} or {'off'}: nothing has changed
-- A new stream begins with an entry that tells nothing: whoever has an older id can see that he missed something.
--! include common events
if arg.events == '' then return {'off'} end
if redis.call('EXISTS', key.events) == 0 then
  redis.call('XADD', key.events, '*', 'at', ms(now), 'type', 'opened', 'data', '{}')
end
redis.call('PEXPIRE', key.events, string.match(arg.events, ' %d+ (%d+)'))
local oldest = redis.call('XRANGE', key.events, '-', '+', 'COUNT', 1)
local newest = redis.call('XREVRANGE', key.events, '+', '-', 'COUNT', 1)
return {'listening', oldest[1][1], newest[1][1]}
