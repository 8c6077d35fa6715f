-- Event `introduce`: before its first message, a producer states how it is configured for this
-- queue. The latest statement counts.
-- KEYS: fingerprint over
-- ARGV: fingerprint over_ms
-- Returns {'introduced'}
-- over: of this very call. A second one changes nothing: another producer may have written since.
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'introduced'} end
redis.call('SET', key.fingerprint, arg.fingerprint)
return {'introduced'}
