-- Read: what an RQ job carries. What is larger than any wake-up stays where it is.
-- KEYS: taken
-- ARGV: most
-- Returns {what it carries, its bytes}; the first is '' for more than `most` bytes; {} if there is no such job, or it carries nothing
local size = redis.call('HSTRLEN', key.taken, 'data')
if size == 0 then return {} end
if size > tonumber(arg.most) then return {'', size} end
return {redis.call('HGET', key.taken, 'data'), size}
