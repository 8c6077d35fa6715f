-- Event `stopped`: the batch ends because it was to be stopped. Its messages are cancelled, with what
-- was said so far; the lease is released, and the thread stays pending if messages wait - in one
-- step. Nothing is delivered.
-- KEYS: thread frozen conversation record due stopping counters scheduled queue queues job guard
--       events feed journal metrics audit auditing *messages
-- ARGV: now thread_id token result account result_ttl_ms keep_text anchor keep_anchor open done
--       recheck_ms tick function origin stamp job_id guard_id events journal journal_most
--       journal_ttl_ms counts audit audit_of audit_most reply
-- Returns {'idle' | 'pending'} or {'lost'}: nothing has changed
-- reply: '', because nothing is delivered. keep_anchor: 1 if nothing of the batch is in the conversation. open: ids of tool calls left
-- unanswered at the provider, JSON or ''; the conversation's next batch answers them.
--! include common wakeup events quiet person results release journal counts audit
local t = read_thread()
if not holds(t) then
  -- The same call again: its reply was lost.
  if redis.call('HGET', key.record, 'token') == arg.token then
    return {t.n == 0 and 'idle' or 'pending'}
  end
  return {'lost'}
end
write_outcome(t, 'stopped')
if arg.keep_anchor == '' then write_anchor() end
if arg.open ~= '' then redis.call('HSET', key.conversation, 'open', arg.open) end
count_step()
audit_batch(t.batch)
if is_watched() then publish('run_stopped', with_account()) end
journal_batch(arg.journal)
return {release(t)}
