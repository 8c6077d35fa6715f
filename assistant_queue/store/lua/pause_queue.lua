-- Event `pause`, of the whole queue: it accepts messages, and no thread is claimed.
-- KEYS: paused over
-- ARGV: now over_ms
-- Returns {'paused'}
-- A queue that is paused already keeps its time. over: of this very call. A second one changes
-- nothing: the queue may have been resumed since.
--! include common
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'paused'} end
redis.call('SET', key.paused, ms(now), 'NX')
return {'paused'}
