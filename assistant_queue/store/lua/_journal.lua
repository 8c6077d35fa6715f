-- The journal of a thread: a compact entry for each batch that ended, the newest last, written by
-- the scripts that end it. core/journal_entries.py has the form of an entry, a JSON list that
-- begins with the ms of the end and the batch's id. A delivery, a list that begins with the ms since
-- that time, joins the entry of its batch if that is one of the newest, else it is an entry by
-- itself.
-- arg.journal: '' for nothing. Of a batch its entry; of a delivery the batch's id as entries have
-- it, a space, and the JSON of the delivery's fields. arg.journal_most: entries that are kept.
-- arg.journal_ttl_ms: how long.
-- Needs key.journal, arg.journal, arg.journal_most and arg.journal_ttl_ms.

-- Entries among which the one of a delivered batch is looked for. Chosen: a platform that lags
-- further behind the model is rare, and each step back is one command.
local newest = 16
-- Chosen: more than one, so that a thread that is busy again forgets what became too old.
local most_old = 5

local function trim_journal(length)
  if length > tonumber(arg.journal_most) then
    redis.call('LTRIM', key.journal, -tonumber(arg.journal_most), -1)
  end
  for _ = 1, most_old do
    local at = string.match(redis.call('LINDEX', key.journal, 0) or '', '^%[(%d+),')
    if at and tonumber(at) > now - tonumber(arg.journal_ttl_ms) then break end
    redis.call('LPOP', key.journal)
  end
  redis.call('PEXPIRE', key.journal, arg.journal_ttl_ms)
end

local function journal_batch(entry)
  if arg.journal == '' then return end
  trim_journal(redis.call('RPUSH', key.journal, entry))
end

local function journal_delivery()
  local batch, fields = string.match(arg.journal, '^(%S+) (.+)$')
  if not batch then return end
  for i = -1, -newest, -1 do
    local entry = redis.call('LINDEX', key.journal, i)
    if not entry then break end
    local at, known, kind = string.match(entry, '^%[(%d+),"([^"]*)",(.)')
    if known == batch and kind ~= '0' then
      local body = string.match(entry, '^(.*)%]') or entry
      local joined = body .. ',[' .. ms(now - at) .. ',' .. fields .. ']]'
      -- It takes the place of the blanks that were left for it.
      redis.call('LSET', key.journal, i, joined .. string.rep(' ', #entry - #joined))
      return
    end
  end
  -- Without the entry of a batch there is nothing to join.
  local length = redis.call('RPUSHX', key.journal,
    '[' .. ms(now) .. ',"' .. batch .. '",0,[0,' .. fields .. ']]')
  if length > 0 then trim_journal(length) end
end
