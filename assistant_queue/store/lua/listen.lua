-- Event `listen`: a subscriber appears: create the stream if it does not exist, and extend its life.
-- KEYS: stream
-- ARGV: now events
-- Returns {'listening', id of the oldest entry, id of the newest} or {'off'}: nothing has changed
-- stream: `events` of a thread, or `feed`. A new one begins with an entry that is no event: a subscriber with an older id can detect that
-- it missed events.
--! include common events
if arg.events == '' then return {'off'} end
if redis.call('EXISTS', key.stream) == 0 then
  redis.call('XADD', key.stream, '*', 'at', ms(now), 'type', 'opened', 'data', '{}')
end
redis.call('PEXPIRE', key.stream, string.match(arg.events, ' %d+ (%d+)'))
local oldest = redis.call('XRANGE', key.stream, '-', '+', 'COUNT', 1)
local newest = redis.call('XREVRANGE', key.stream, '+', '-', 'COUNT', 1)
return {'listening', oldest[1][1], newest[1][1]}
