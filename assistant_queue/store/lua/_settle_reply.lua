-- The head leaves the line: delivered, or to the failed list. The holder may deliver the next one
-- at once, under the same token: a line drains with one round trip for each reply.
-- Needs key.paused, key.scheduled, key.guard (for arg.guard_id), arg.token, arg.batch_id,
-- arg.lease_ms, arg.next, and what _outbox.lua and _person.lua need.

local function next_reply()
  local entry = redis.call('LINDEX', key.outbox, 0)
  local d = read_delivery()
  if not entry or d.token ~= arg.token then return {''} end
  return {entry, d.progress or '', d['until'], ms(now)}
end

local function leave_line(t, d)
  redis.call('LPOP', key.outbox)
  add_to('replies', -1)
  if d.wake and d.wake == arg.guard_id then
    redis.call('ZREM', key.scheduled, d.wake)
    redis.call('DEL', key.guard)
  end
  local batch = reply_of(redis.call('LINDEX', key.outbox, 0))
  if not batch then
    if redis.call('EXISTS', key.outbox) == 0 then
      redis.call('DEL', key.delivering)
      redis.call('ZREM', key.deliveries, arg.thread_id)
    else
      set_head(d, '', holds_replies(t), '', '') -- unreadable: the next claim reports it
    end
    return {''}
  end
  local stops = arg.next == '' or redis.call('EXISTS', key.paused) == 1
  set_head(d, batch, holds_replies(t), stops and '' or arg.token, arg.lease_ms)
  return next_reply()
end

-- Whether this call settles the head; else the reply that it gets.
local function settling(d)
  if d.token == arg.token and d.batch == arg.batch_id then return nil end
  -- The same call again: its reply was lost, and the token holds the next reply, or none.
  if redis.call('HGET', key.record, 'settled_by') == arg.token then
    return {'settled', next_reply()}
  end
  return {'lost'}
end

local function note_on_record(word)
  if redis.call('EXISTS', key.record) == 0 then return end
  redis.call('HSET', key.record, 'delivery', word, 'settled_by', arg.token)
end
