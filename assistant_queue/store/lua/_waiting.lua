-- The place of a waiting message: located by its sequence number, confirmed by its id.
-- Needs key.message, key.pending, arg.message_id and arg.rev.

-- Returns the index in `pending`, or a word: gone (no such message), settled (its batch, or its
-- end, is known, or it was said), taken (it is in a batch) or changed (since its `rev` was read). Every edit
-- increments `rev`, and so does every event that makes a message wait again: a late copy of an
-- answered call, whether it succeeded or not, finds another number.
local function waiting_index(t)
  local record = redis.call('HMGET', key.message, 'thread', 'seq', 'batch', 'state', 'rev', 'said')
  if not record[1] then return 'gone' end
  if record[3] or record[4] or record[6] then return 'settled' end
  if not is_number(record[2] or '') then return 'taken' end
  local index = tonumber(record[2]) - t.head
  local entry = index >= 0 and redis.call('LINDEX', key.pending, ms(index))
  if not entry or entry == '' then return 'taken' end
  local is_read, message = pcall(cjson.decode, entry)
  if not is_read or type(message) ~= 'table' or message.id ~= arg.message_id then return 'taken' end
  if (record[5] or '') ~= arg.rev then return 'changed' end
  return index
end
