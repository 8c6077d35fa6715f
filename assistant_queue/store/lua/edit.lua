-- Event `edit`: a waiting message gets another content; its place and its window stay.
-- KEYS: thread pending message events
-- ARGV: now message_id entry digest events
-- Returns {'edited'}; {'gone' | 'settled' | 'taken'}: nothing has changed
--! include common waiting events
local index = waiting_index(read_thread())
if type(index) == 'string' then return {index} end
-- The same content again changes nothing, and may be a call whose reply was lost.
local is_new = redis.call('HGET', key.message, 'digest') ~= arg.digest
redis.call('LSET', key.pending, ms(index), arg.entry)
redis.call('HSET', key.message, 'digest', arg.digest)
if is_new and listened() then tell('message_edited', cjson.encode({entry = arg.entry})) end
return {'edited'}
