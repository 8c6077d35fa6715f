-- Compact form of what waits for long: Redis keeps a hash in little memory as long as none of its
-- values has more than 64 bytes. A packed text (core/packed_text.py) is ASCII and begins with a
-- tilde; it is stored in pieces, the first under its own name, the others under a letter and a
-- number.

-- Chosen: a batch with four calls has as many; the texts of a larger one count for more.
local piece_size, most_pieces = 64, 8

local function is_packed(text) return string.sub(text, 1, 1) == '~' end

-- Names of fields and their values, in turns.
local function in_pieces(name, letter, text)
  if not is_packed(text) or #text > piece_size * most_pieces then return {name, text} end
  local fields = {name, string.sub(text, 1, piece_size)}
  for i = 1, math.ceil(#text / piece_size) - 1 do
    fields[#fields + 1] = letter .. i
    fields[#fields + 1] = string.sub(text, i * piece_size + 1, (i + 1) * piece_size)
  end
  return fields
end

-- The text of a batch's progress; '' for none. Pieces beside one that is not packed are left over.
local function whole_progress(t)
  if not t.progress or not is_packed(t.progress) then return t.progress or '' end
  local parts = {t.progress}
  local rest = redis.call('HMGET', key.thread, 'p1', 'p2', 'p3', 'p4', 'p5', 'p6', 'p7')
  for i = 1, most_pieces - 1 do
    if rest[i] then parts[#parts + 1] = rest[i] end
  end
  return table.concat(parts)
end

-- A short mark of an id, of `mark_of` in core/packed_text.py.
local function mark_of(id)
  local sum = 0
  for i = 1, #id do sum = (sum * 31 + string.byte(id, i)) % 16777213 end
  return string.format('%06x', sum)
end

-- Packed progress begins with how often the batch was sent, and the mark of its run.
local function attempts_of(progress)
  if progress == '' then return 0 end
  if is_packed(progress) then return tonumber(string.match(progress, '^~(%d+) ') or 0) end
  return cjson.decode(progress).attempts or 0
end

local function is_run_of(progress, run_id)
  if is_packed(progress) then
    return string.match(progress, '^~%d+ (%x+) ') == mark_of(run_id)
  end
  return progress ~= '' and cjson.decode(progress).run_id == run_id
end

-- A call's record has the end of its batch's id; an earlier version stored the whole id.
local function short_of(batch) return string.sub(batch, -12) end
local function is_of(batch, stored)
  return stored and batch and (stored == batch or stored == short_of(batch))
end
