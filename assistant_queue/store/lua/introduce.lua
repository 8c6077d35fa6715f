-- Event `introduce`: a producer says, before its first message, what it believes this queue to be. The last one to say so is believed.
-- KEYS: fingerprint over
-- ARGV: fingerprint over_ms
-- Returns {'introduced'}
-- over: of this very call. A second one changes nothing: another producer may have spoken since.
if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false then return {'introduced'} end
redis.call('SET', key.fingerprint, arg.fingerprint)
return {'introduced'}
