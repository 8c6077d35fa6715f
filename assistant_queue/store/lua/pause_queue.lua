-- Event `pause`, of the whole queue: it takes messages, nothing of it is claimed.
-- KEYS: paused over
-- ARGV: now over_ms
-- Returns {'paused'}
-- A queue that is paused already stays paused since then. over: of this very call. A second one changes nothing: the queue may have been
-- resumed since.
--! include common
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'paused'} end
redis.call('SET', key.paused, ms(now), 'NX')
return {'paused'}
