import path from 'node:path';
import { z } from 'zod';
import { readJson, writeJson } from '../run/state-files.ts';
import type { Message } from './message.ts';
import type { Waiting } from './outbox-files.ts';

/** The ids that are remembered: as many messages as can wait, and some. */
const MAX_IDS = 250;

const document = z.object({
  ids: z.array(z.string()),
  incidents: z.record(z.string(), z.object({ at: z.number(), over: z.boolean() })),
  all: z.number().optional(),
});
type Sent = z.infer<typeof document>;

/** The memory of what a channel has sent, which all processes share. */
export interface SentLog {
  /** Returns whether a message was sent, maybe by another process. */
  has(one: Waiting): Promise<boolean>;
  /**
   * Returns the part of a message that is not obsolete. An incident is obsolete if something newer about it was sent
   * that says the opposite. `undefined`: nothing of it is left.
   */
  freshPartOf(one: Waiting): Promise<Message | undefined>;
  /** Notes that a message was sent. Never rejects. */
  note(one: Waiting): Promise<void>;
  /** Notes that all messages from before a time are obsolete, milliseconds since 1970. Never rejects. */
  outdate(at: number): Promise<void>;
}

/** Options of {@link openSentLog}. */
interface SentLogOptions {
  /** of the state; absent: only in memory */
  directory: string | undefined;
  channel: string;
  /** milliseconds since 1970 */
  now(): number;
}

/** Opens the memory of a channel. */
export function openSentLog({ directory, channel, now }: SentLogOptions): SentLog {
  const file = directory === undefined ? undefined : path.join(directory, 'outbox', `${channel}.sent.json`);
  let own: Sent = { ids: [], incidents: {} };
  const read = async () => {
    const found = file === undefined ? undefined : await readJson(file).catch(() => undefined);
    const { data } = document.safeParse(found);
    own = withoutFuture(data ? merge(data, own) : own, now());
    return own;
  };
  const add = async (more: Sent) => {
    own = merge(await read(), more);
    // Losing it costs at most a message that arrives twice. This process still knows it.
    if (file !== undefined) await writeJson(file, own).catch(() => undefined);
  };
  return {
    has: async ({ id }) => (await read()).ids.includes(id),
    async freshPartOf({ message, at }) {
      const { incidents, all } = await read();
      if (all !== undefined && at < all) return undefined;
      const left = message.incidents.filter(({ key, over }) => {
        const last = incidents[key];
        return !last || last.over === over || at >= last.at;
      });
      if (left.length === message.incidents.length) return message;
      return left.length === 0 ? undefined : { ...message, incidents: left };
    },
    note: ({ id, message, at }) =>
      add({ ids: [id], incidents: Object.fromEntries(message.incidents.map(({ key, over }) => [key, { at, over }])) }),
    outdate: (at) => add({ ids: [], incidents: {}, all: at }),
  };
}

/** Leaves out times in the future. The clock was set back, so they say nothing about the order. */
function withoutFuture({ ids, incidents, all }: Sent, now: number): Sent {
  const past = Object.entries(incidents).filter(([, { at }]) => at <= now);
  return { ids, incidents: Object.fromEntries(past), ...(all !== undefined && all <= now ? { all } : {}) };
}

/** Joins two memories. Of each incident, the newest message counts, and in doubt that of `b`. */
function merge(a: Sent, b: Sent): Sent {
  const incidents = { ...a.incidents };
  for (const [key, one] of Object.entries(b.incidents)) if (one.at >= (incidents[key]?.at ?? 0)) incidents[key] = one;
  const all = Math.max(a.all ?? 0, b.all ?? 0);
  return { ids: [...new Set([...a.ids, ...b.ids])].slice(-MAX_IDS), incidents, ...(all > 0 ? { all } : {}) };
}
