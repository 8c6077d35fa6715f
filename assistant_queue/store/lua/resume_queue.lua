-- Event `resume`, of the whole queue: its threads can be claimed again. The sweep that follows
-- wakes those that became due meanwhile.
-- KEYS: paused over
-- ARGV: now over_ms
-- Returns {'resumed'}
-- over: of this very call. A second one changes nothing: the queue may have been paused since.
--! include common
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'resumed'} end
redis.call('DEL', key.paused)
return {'resumed'}
