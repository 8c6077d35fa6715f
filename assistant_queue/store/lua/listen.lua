-- Event `listen`: a subscriber appears: create the thread's stream if it does not exist, and extend
-- its life.
-- KEYS: events
-- ARGV: now events
-- Returns {'listening', id of the oldest entry, id of the newest} or {'off'}: nothing has changed
-- A new stream begins with an entry that is no event: a subscriber with an older id can detect that
-- it missed events.
--! include common events
if arg.events == '' then return {'off'} end
if redis.call('EXISTS', key.events) == 0 then
  redis.call('XADD', key.events, '*', 'at', ms(now), 'type', 'opened', 'data', '{}')
end
redis.call('PEXPIRE', key.events, string.match(arg.events, ' %d+ (%d+)'))
local oldest = redis.call('XRANGE', key.events, '-', '+', 'COUNT', 1)
local newest = redis.call('XREVRANGE', key.events, '+', '-', 'COUNT', 1)
return {'listening', oldest[1][1], newest[1][1]}
