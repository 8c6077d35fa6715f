-- Put the reply of a batch that ends into its thread's outbox.
-- Needs key.record, key.paused, arg.reply, arg.delivery_token, arg.lease_ms, and what _outbox.lua
-- needs.

local function queue_reply(t, batch, kind)
  if arg.reply == '' then return end
  redis.call('HSET', key.record, 'delivery', 'pending')
  if not put_reply(batch .. ' ' .. ms(now) .. ' ' .. kind .. ' ' .. arg.reply) then return end
  local is_held = arg.delivery_token == '' or redis.call('EXISTS', key.paused) == 1
  set_head({}, batch, holds_replies(t), is_held and '' or arg.delivery_token, arg.lease_ms)
end

-- Until when the caller holds the delivery; '' if it does not.
local function held_delivery()
  if arg.reply == '' or arg.delivery_token == '' then return '' end
  local held = redis.call('HMGET', key.delivering, 'token', 'until')
  return held[1] == arg.delivery_token and held[2] or ''
end
