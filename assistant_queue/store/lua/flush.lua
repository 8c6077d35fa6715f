-- Event `flush`: the window of the waiting messages is over.
-- KEYS: thread pending due counters over scheduled queue queues job events feed
-- ARGV: now thread_id over_ms recheck_ms tick function origin stamp job_id events
-- Returns {'flushed'}, or {'idle'}: no message waits that wants a reply, nothing has changed
-- over: of this very call. A second one changes nothing: messages may have arrived since.
--! include common wakeup events quiet person join
local before = redis.call('GET', key.over)
if before then return {before} end
local t = read_thread()
local word = t.n > 0 and not is_never(t.own_due) and 'flushed' or 'idle'
redis.call('SET', key.over, word, 'PX', arg.over_ms)
if word == 'idle' or tonumber(t.own_due) <= now then return {word} end
local kind = kind_of(t, now)
book(t.pk, kind, t.n)
redis.call('HSET', key.thread, 'own_due', ms(now), 'pk', kind)
if not t.batch then wake_in_time(t, now) end
if is_watched() then
  publish('window_moved', cjson.encode({due = ms(now), pending = t.n}))
end
return {word}
