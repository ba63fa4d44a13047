
/*
 * The same bucket as a script for Redis, for several keys at once: all are
 * loaded, all are checked, and only if all allow it all are charged.
 *
 *     KEYS  one bucket for each policy
 *     ARGV  the length of an epoch in us, then for each key what
 *           runcoach_bucket_args() writes
 *
 * The reply is a flat array of integers for runcoach_bucket_answers().  A key
 * holds "deficit ts p", and with leases "deficit ts p held held epoch": units
 * which are held out of the bucket for leases granted in even and odd epochs,
 * and the epoch of the last update.  deficit + held + held <= c, unless c was
 * lowered.  A lease ends two epochs after its own began; then what is still
 * held of it counts as spent at that instant.  The key lives until the bucket
 * is full.
 *
 * What is not obvious:
 *
 * - time is that of Redis, the only clock all edges share;
 * - a denial writes nothing, so that a flood costs no replication, and denials
 *   work while writes are refused; but a report is kept, a hint of what was
 *   lost is, and a clock that stepped back is followed at once, or the bucket
 *   would stand still;
 * - a lease is at most half of what is left, so that the next edge gets one;
 * - a lease that had an epoch of the future, before a step back of more than
 *   two epochs, counts as spent at once;
 * - after a reset the epoch is one of the future and nothing is held: there are
 *   no leases until then, and the key stays, so that no hint of another edge
 *   undoes the reset;
 * - debts are charged as far as possible: need may be more than cost;
 * - elapsed * n may be inexact above 2^53, where it only has to be larger than
 *   a deficit below 2^53, and is; all other numbers are exact, and dividing is,
 *   because no quotient of a number below 2^53 can round across an integer;
 * - no "#!lua", an error before Redis 7; "%.0f", as tostring() gives 1.7e+15;
 * - numbers of ARGV are made by arithmetic, minima by comparison, the reply in
 *   one piece: a call, or a table that grows, takes longer than all of these.
 */


#ifndef _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_
#define _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_


#define RUNCOACH_BUCKET_SCRIPT                                                \
    "local call, format, match = redis.call, string.format, string.match\n"   \
    "local floor, ceil = math.floor, math.ceil\n"                             \
    "local most = 9007199254740992\n"                                         \
    "local length = ARGV[1] + 0\n"                                            \
    "local t = redis.call('TIME')\n"                                          \
    "local now = t[1] * 1000000 + t[2]\n"                                     \
    "local current = floor(now / length)\n"                                   \
    "\n"                                                                      \
    "local all, state, reply = true, {}, {}\n"                                \
    "\n"                                                                      \
    "for i = 1, #KEYS do\n"                                                   \
    "  local k = i * 10 - 9\n"                                                \
    "  local n, p, c = ARGV[k + 1] + 0, ARGV[k + 2] + 0, ARGV[k + 3] + 0\n"   \
    "  local cost, hint = ARGV[k + 4] + 0, ARGV[k + 10] + 0\n"                \
    "  local lack, ts, x, y, at = 0, now, 0, 0, current\n"                    \
    "  local fresh, dirty = 1, false\n"                                       \
    "\n"                                                                      \
    "  local v = call('GET', KEYS[i])\n"                                      \
    "  if v then\n"                                                           \
    "    local d, s, was, rest = match(v, '^(%d+) (%d+) (%d+)(.*)$')\n"       \
    "    local a, b, e = 0, 0, current\n"                                     \
    "    if d then\n"                                                         \
    "      d, s, was = d + 0, s + 0, was + 0\n"                               \
    "      if rest ~= '' then\n"                                              \
    "        a, b, e = match(rest, '^ (%d+) (%d+) (%d+)$')\n"                 \
    "        if a then a, b, e = a + 0, b + 0, e + 0 end\n"                   \
    "      end\n"                                                             \
    "    end\n"                                                               \
    "    if d and d < most and s < most and was > 0\n"                        \
    "       and a and a + b < most and e < most / length then\n"              \
    "      lack, ts, x, y, at, fresh = d, s, a, b, e, 0\n"                    \
    "      if was ~= p then\n"                                                \
    "        lack = math.min(ceil(lack / was * p), most - 1)\n"               \
    "        x = math.min(ceil(x / was * p), most - 1)\n"                     \
    "        y = math.min(ceil(y / was * p), most - 1)\n"                     \
    "      end\n"                                                             \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "  if fresh == 1 and hint > 0 then\n"                                     \
    "    lack, dirty = math.min(hint, c), true\n"                             \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  if at ~= current and x + y > 0 then\n"                                 \
    "    if at > current + 2 then\n"                                          \
    "      lack, x, y, at, dirty = lack + x + y, 0, 0, current, true\n"       \
    "    elseif at < current then\n"                                          \
    "      for e = at - 1, math.min(at, current - 2) do\n"                    \
    "        local held = e % 2 == 0 and x or y\n"                            \
    "        if held > 0 then\n"                                              \
    "          local to = (e + 2) * length\n"                                 \
    "          if to >= ts then\n"                                            \
    "            lack, ts = math.max(lack - (to - ts) * n, 0), to\n"          \
    "          elseif to < ts - 1000000 then\n"                               \
    "            ts, dirty = to, dirty or lack > 0\n"                         \
    "          end\n"                                                         \
    "          lack = lack + held\n"                                          \
    "          if e % 2 == 0 then x = 0 else y = 0 end\n"                     \
    "        end\n"                                                           \
    "      end\n"                                                             \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "  if at < current then at = current end\n"                               \
    "  if now >= ts then\n"                                                   \
    "    lack, ts = lack - (now - ts) * n, now\n"                             \
    "    if lack < 0 then lack = 0 end\n"                                     \
    "  elseif now < ts - 1000000 then\n"                                      \
    "    ts, dirty = now, dirty or lack > 0\n"                                \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  local epoch = ARGV[k + 7] + 0\n"                                       \
    "  if epoch == -2 then\n"                                                 \
    "    lack, x, y, dirty = 0, 0, 0, true\n"                                 \
    "    at = current + ceil(c / n / length) + 1\n"                           \
    "  elseif epoch == at or epoch == at - 1 then\n"                          \
    "    local even = epoch % 2 == 0\n"                                       \
    "    local held = even and x or y\n"                                      \
    "    local spent = math.min(ARGV[k + 8] * p, held)\n"                     \
    "    local released = math.min(ARGV[k + 9] * p, held - spent)\n"          \
    "    if spent + released > 0 then\n"                                      \
    "      lack, held, dirty = lack + spent, held - spent - released, true\n" \
    "      if even then x = held else y = held end\n"                         \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  local free = c - lack - x - y\n"                                       \
    "  local tokens = free > 0 and floor(free / p) or 0\n"                    \
    "  local retry = 0\n"                                                     \
    "  if cost * p > c then\n"                                                \
    "    retry = -1\n"                                                        \
    "  elseif cost > tokens then\n"                                           \
    "    local want = cost * p - free\n"                                      \
    "    if want <= lack then\n"                                              \
    "      retry = ceil(want / n)\n"                                          \
    "    else\n"                                                              \
    "      local older, newer = y, x\n"                                       \
    "      if at % 2 == 1 then older, newer = x, y end\n"                     \
    "      local ends = (at + 1) * length - now\n"                            \
    "      local room = c - cost * p - newer\n"                               \
    "      local d = math.max(lack - n * ends, 0) + older\n"                  \
    "      if room < 0 then\n"                                                \
    "        d = math.max(d - n * length, 0)\n"                               \
    "        ends = ends + length\n"                                          \
    "      end\n"                                                             \
    "      retry = ends + ceil(math.max(d - room, 0) / n)\n"                  \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  all = all and retry == 0\n"                                            \
    "  state[i] = { n, p, lack, x, y, at, dirty, free, tokens, ts, retry,\n"  \
    "    fresh }\n"                                                           \
    "end\n"                                                                   \
    "\n"                                                                      \
    "for i = 1, #KEYS do\n"                                                   \
    "  local k = i * 10 - 9\n"                                                \
    "  local b = state[i]\n"                                                  \
    "  local n, p, lack, x, y, at = b[1], b[2], b[3], b[4], b[5], b[6]\n"     \
    "  local dirty, free, tokens = b[7], b[8], b[9]\n"                        \
    "  local got, held = 0, 0\n"                                              \
    "\n"                                                                      \
    "  if all then\n"                                                         \
    "    got = ARGV[k + 5] + 0\n"                                             \
    "    if got > tokens then got = tokens end\n"                             \
    "    held = ARGV[k + 6] + 0\n"                                            \
    "    if held > 0 then\n"                                                  \
    "      if at <= current or x + y > 0 then\n"                              \
    "        held = math.min(held, floor((tokens - got) / 2))\n"              \
    "      else\n"                                                            \
    "        held = 0\n"                                                      \
    "      end\n"                                                             \
    "    end\n"                                                               \
    "    if got + held > 0 then\n"                                            \
    "      lack, dirty = lack + got * p, true\n"                              \
    "      free = free - (got + held) * p\n"                                  \
    "      if at % 2 == 0 then x = x + held * p else y = y + held * p end\n"  \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  if dirty then\n"                                                       \
    "    local v\n"                                                           \
    "    local ms = ceil((lack + x + y) / n / 1000) + 1\n"                    \
    "    if x + y > 0 or at > current then\n"                                 \
    "      ms = ms + ceil(((at + 2) * length - now) / 1000)\n"                \
    "      v = format('%.0f %.0f %.0f %.0f %.0f %.0f', lack, b[10],\n"        \
    "        p, x, y, at)\n"                                                  \
    "    else\n"                                                              \
    "      v = format('%.0f %.0f %.0f', lack, b[10], p)\n"                    \
    "    end\n"                                                               \
    "    call('SET', KEYS[i], v, 'PX', format('%.0f', ms))\n"                 \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  if held == 0 then at = current end\n"                                  \
    "  b = { b[11] == 0 and 1 or 0, got, held, at, (at + 2) * length - now,\n"\
    "    free, b[11], ceil(lack / n), b[12] }\n"                              \
    "  if #KEYS == 1 then return b end\n"                                     \
    "  for j = 1, 9 do reply[i * 9 - 9 + j] = b[j] end\n"                     \
    "end\n"                                                                   \
    "\n"                                                                      \
    "return reply\n"


#endif /* _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_ */
