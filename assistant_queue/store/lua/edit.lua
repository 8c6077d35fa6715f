-- Event `edit`: a waiting message gets another content; its place and its window stay.
-- KEYS: thread pending message events feed
-- ARGV: now message_id rev nonce entry chars digest events
-- Returns {'edited'}; {'gone' | 'settled' | 'taken' | 'changed'}: nothing has changed
--! include common waiting events chars
local t = read_thread()
local index = waiting_index(t)
if type(index) == 'string' then
  -- The same call again: its reply was lost.
  return {redis.call('HGET', key.message, 'edited_by') == arg.nonce and 'edited' or index}
end
-- The same content again is no event.
local is_new = redis.call('HGET', key.message, 'digest') ~= arg.digest
redis.call('LSET', key.pending, ms(index), arg.entry)
redis.call('HSET', key.message, 'digest', arg.digest, 'edited_by', arg.nonce)
if t.chars then
  count_chars(t, tonumber(arg.chars))
  redis.call('HSET', key.message, 'chars', arg.chars)
end
redis.pcall('HINCRBY', key.message, 'rev', 1)
if is_new and is_watched() then
  publish('message_edited', cjson.encode({entry = arg.entry}))
end
return {'edited'}
