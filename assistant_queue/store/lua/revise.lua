-- Event `revise`: a message of the frozen batch is to be removed, or to have another content.
-- KEYS: thread frozen message over due stopping counters scheduled queue queues job
-- ARGV: now thread_id message_id revision over_ms wishes recheck_ms tick function origin stamp
--       job_id
-- Returns {'revising'}
--         {'stopping'}: it is to be removed, and no other message of the batch wants a reply
--         {'none'}: it is not in a batch that is under way; nothing has changed
-- revision: '' to remove it, else what the edited message is, packed, and its digest, JSON. It stays
-- in the message's record until the holder of the lease makes it (revised.lua), or the batch ends.
-- over: of this very call; a second one changes nothing, and gets the same reply.
--! include common wakeup due quiet wish person parked want stop
local before = redis.call('GET', key.over)
if before then return {before} end
local t = read_thread()

local function place()
  local found, others = false, 0
  for _, entry in ipairs(redis.call('LRANGE', key.frozen, 0, -1)) do
    local is_read, message = pcall(cjson.decode, entry)
    if is_read and type(message) == 'table' and message.id == arg.message_id then
      found = true
    elseif not is_marked(entry) then
      others = others + 1
    end
  end
  return found, others
end

local word = 'none'
if t.batch and t.phase ~= 'delivering' then
  local found, others = place()
  if found and arg.revision == '' and others == 0 then
    word = 'stopping'
    wish_to_stop(t)
  elseif found then
    word = 'revising'
    redis.call('HSET', key.message, 'revision', t.batch .. ' ' .. arg.revision)
    redis.call('HINCRBY', key.thread, 'revisions', 1)
    want(t, 'interrupt')
  end
end
redis.call('SET', key.over, word, 'PX', arg.over_ms)
return {word}
