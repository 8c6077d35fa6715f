-- The spool of the audit: entries of batches that ended, the oldest first, until a worker has
-- written them to the audit's database. store/audit_codec.py has the form of an entry.
-- arg.audit: '' for nothing, else what the entry says beside the batch, JSON. arg.audit_of: the
-- packed batch; '' if it is arg.reply. arg.audit_most: entries that the spool holds.
-- Needs key.audit, key.auditing, arg.audit, arg.audit_of, arg.audit_most, arg.reply, arg.thread_id.

local function audit_head(batch)
  return batch .. ' ' .. ms(now) .. ' ' .. #arg.thread_id .. ' ' .. arg.thread_id
end

-- An entry for which there is no room is lost, and counted.
local function audit_batch(batch)
  if arg.audit == '' then return end
  if redis.call('LLEN', key.audit) >= tonumber(arg.audit_most) then
    if type(redis.pcall('HINCRBY', key.auditing, 'lost', 1)) ~= 'number' then
      redis.call('HSET', key.auditing, 'lost', '1')
    end
    return
  end
  local body = arg.audit_of ~= '' and arg.audit_of or arg.reply
  redis.call('RPUSH', key.audit,
    audit_head(batch) .. string.sub(body, 1, -2) .. ',"z":' .. arg.audit .. '}')
end
