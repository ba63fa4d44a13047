
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
 * - no "#!lua", an error before Redis 7; "%.0f", as tostring() gives 1.7e+15.
 */


#ifndef _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_
#define _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_


#define RUNCOACH_BUCKET_SCRIPT                                                \
    "local call, format = redis.call, string.format\n"                        \
    "local max, ceil, floor = math.max, math.ceil, math.floor\n"              \
    "local min, match = math.min, string.match\n"                             \
    "local most = 9007199254740992\n"                                         \
    "local length = tonumber(ARGV[1])\n"                                      \
    "local t = redis.call('TIME')\n"                                          \
    "local now = tonumber(t[1]) * 1000000 + tonumber(t[2])\n"                 \
    "local current = floor(now / length)\n"                                   \
    "\n"                                                                      \
    "local all, state, reply = true, {}, {}\n"                                \
    "\n"                                                                      \
    "for i = 1, #KEYS do\n"                                                   \
    "  local k = i * 10 - 9\n"                                                \
    "  local n, p = tonumber(ARGV[k + 1]), tonumber(ARGV[k + 2])\n"           \
    "  local c, cost = tonumber(ARGV[k + 3]), tonumber(ARGV[k + 4])\n"        \
    "  local hint = tonumber(ARGV[k + 10])\n"                                 \
    "  local lack, ts, x, y, at = 0, now, 0, 0, current\n"                    \
    "  local fresh, dirty = 1, false\n"                                       \
    "\n"                                                                      \
    "  local v = call('GET', KEYS[i])\n"                                      \
    "  if v then\n"                                                           \
    "    local d, s, was, rest = match(v, '^(%d+) (%d+) (%d+)(.*)$')\n"       \
    "    local a, b, e = 0, 0, current\n"                                     \
    "    d, s, was = tonumber(d), tonumber(s), tonumber(was)\n"               \
    "    if rest and rest ~= '' then\n"                                       \
    "      a, b, e = match(rest, '^ (%d+) (%d+) (%d+)$')\n"                   \
    "      a, b, e = tonumber(a), tonumber(b), tonumber(e)\n"                 \
    "    end\n"                                                               \
    "    if d and d < most and s < most and was > 0\n"                        \
    "       and a and a + b < most and e < most / length then\n"              \
    "      lack, ts, x, y, at, fresh = d, s, a, b, e, 0\n"                    \
    "      if was ~= p then\n"                                                \
    "        lack = min(ceil(lack / was * p), most - 1)\n"                    \
    "        x = min(ceil(x / was * p), most - 1)\n"                          \
    "        y = min(ceil(y / was * p), most - 1)\n"                          \
    "      end\n"                                                             \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "  if fresh == 1 and hint > 0 then\n"                                     \
    "    lack, dirty = min(hint, c), true\n"                                  \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  if at ~= current and x + y > 0 then\n"                                 \
    "    if at > current + 2 then\n"                                          \
    "      lack, x, y, at, dirty = lack + x + y, 0, 0, current, true\n"       \
    "    elseif at < current then\n"                                          \
    "      for e = at - 1, min(at, current - 2) do\n"                         \
    "        local held = e % 2 == 0 and x or y\n"                            \
    "        if held > 0 then\n"                                              \
    "          local to = (e + 2) * length\n"                                 \
    "          if to >= ts then\n"                                            \
    "            lack, ts = max(lack - (to - ts) * n, 0), to\n"               \
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
    "    lack, ts = max(lack - (now - ts) * n, 0), now\n"                     \
    "  elseif now < ts - 1000000 then\n"                                      \
    "    ts, dirty = now, dirty or lack > 0\n"                                \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  local epoch = tonumber(ARGV[k + 7])\n"                                 \
    "  if epoch == -2 then\n"                                                 \
    "    lack, x, y, dirty = 0, 0, 0, true\n"                                 \
    "    at = current + ceil(c / n / length) + 1\n"                           \
    "  elseif epoch == at or epoch == at - 1 then\n"                          \
    "    local even = epoch % 2 == 0\n"                                       \
    "    local held = even and x or y\n"                                      \
    "    local spent = min(tonumber(ARGV[k + 8]) * p, held)\n"                \
    "    local released = min(tonumber(ARGV[k + 9]) * p, held - spent)\n"     \
    "    if spent + released > 0 then\n"                                      \
    "      lack, held, dirty = lack + spent, held - spent - released, true\n" \
    "      if even then x = held else y = held end\n"                         \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  local free = c - lack - x - y\n"                                       \
    "  local tokens = max(floor(free / p), 0)\n"                              \
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
    "      local d = max(lack - n * ends, 0) + older\n"                       \
    "      if room < 0 then\n"                                                \
    "        d = max(d - n * length, 0)\n"                                    \
    "        ends = ends + length\n"                                          \
    "      end\n"                                                             \
    "      retry = ends + ceil(max(d - room, 0) / n)\n"                       \
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
    "    got = min(tonumber(ARGV[k + 5]), tokens)\n"                          \
    "    if at <= current or x + y > 0 then\n"                                \
    "      held = min(tonumber(ARGV[k + 6]), floor((tokens - got) / 2))\n"    \
    "    end\n"                                                               \
    "    if got + held > 0 then\n"                                            \
    "      lack, dirty = lack + got * p, true\n"                              \
    "      free = free - (got + held) * p\n"                                  \
    "      if at % 2 == 0 then x = x + held * p else y = y + held * p end\n"  \
    "    end\n"                                                               \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  if dirty then\n"                                                       \
    "    local v = ''\n"                                                      \
    "    local ms = ceil((lack + x + y) / n / 1000) + 1\n"                    \
    "    if x + y > 0 or at > current then\n"                                 \
    "      ms = ms + ceil(((at + 2) * length - now) / 1000)\n"                \
    "      v = format(' %.0f %.0f %.0f', x, y, at)\n"                         \
    "    end\n"                                                               \
    "    v = format('%.0f %.0f %.0f', lack, b[10], p) .. v\n"                 \
    "    call('SET', KEYS[i], v, 'PX', format('%.0f', ms))\n"                 \
    "  end\n"                                                                 \
    "\n"                                                                      \
    "  if held == 0 then at = current end\n"                                  \
    "  k = i * 9 - 9\n"                                                       \
    "  reply[k + 1] = b[11] == 0 and 1 or 0\n"                                \
    "  reply[k + 2] = got\n"                                                  \
    "  reply[k + 3] = held\n"                                                 \
    "  reply[k + 4] = at\n"                                                   \
    "  reply[k + 5] = (at + 2) * length - now\n"                              \
    "  reply[k + 6] = free\n"                                                 \
    "  reply[k + 7] = b[11]\n"                                                \
    "  reply[k + 8] = ceil(lack / n)\n"                                       \
    "  reply[k + 9] = b[12]\n"                                                \
    "end\n"                                                                   \
    "\n"                                                                      \
    "return reply\n"


#endif /* _RUNCOACH_BUCKET_SCRIPT_H_INCLUDED_ */
