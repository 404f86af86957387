import { randomUUID } from 'node:crypto';
import { access, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { cleanReport } from '../report/clean.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import type { Message } from './message.ts';

/** Messages of one channel in files. When there are more, the oldest ones are deleted. */
export const MAX_WAITING = 20;
/** A larger message is not stored, in bytes of JSON. */
const MAX_BYTES = 512 * 1024;
/** Another process may still send a message whose file is younger, milliseconds. */
const ADOPT_AFTER_MS = 60_000;

/** A message that is not sent yet. */
export interface Waiting {
  message: Message;
  /** when it was worded, milliseconds since 1970 */
  at: number;
  /** name of its file; absent if it is only in memory */
  file?: string | undefined;
}

/** The messages of one channel that are not sent yet, in files of the state. */
export interface OutboxFiles {
  /** Stores a message, without secrets. Returns the name of its file; undefined if it cannot be stored. */
  save(one: Waiting): Promise<string | undefined>;
  remove(file: string): Promise<void>;
  /** Returns false if another process has taken the message over. */
  has(file: string): Promise<boolean>;
  /** Takes over the messages that other processes left, oldest first. Each message has one taker. */
  adopt(): Promise<Waiting[]>;
}

const lines = z.array(z.string());
/** What all channels read of a message. The event is checked by the channels that show it. */
const stored = z.object({
  format: z.literal(1),
  at: z.number(),
  message: z.looseObject({
    event: z.looseObject({ type: z.string() }),
    ...{ project: z.string(), at: z.string(), title: z.string(), facts: lines, safe: lines, next: lines },
    level: z.enum(['bad', 'warning', 'good', 'info']),
    incidents: z.array(z.object({ key: z.string(), over: z.boolean(), summary: z.string() })),
  }),
});

/** `directory`: of the state. `now`: milliseconds since 1970. */
export function openOutboxFiles(directory: string, channel: string, now: () => number): OutboxFiles {
  const place = path.join(directory, 'outbox', channel);
  const known = new Set<string>();
  return {
    async save({ message, at }) {
      const document = { format: 1, at, message: cleanReport(small(message)) };
      if (Buffer.byteLength(JSON.stringify(document)) > MAX_BYTES) return undefined;
      const name = `${String(at).padStart(15, '0')}-${randomUUID().slice(0, 8)}.json`;
      try {
        await writeJson(path.join(place, name), document);
      } catch {
        // Without the file, the message still waits in memory.
        return undefined;
      }
      known.add(name);
      return name;
    },
    async remove(file) {
      known.delete(file);
      await rm(path.join(place, file), { force: true });
    },
    has: (file) =>
      access(path.join(place, file)).then(
        () => true,
        () => false,
      ),
    async adopt() {
      const found: Waiting[] = [];
      const names = (await readdir(place).catch(() => [])).filter((name) => name.endsWith('.json')).sort();
      for (const name of names.slice(0, -MAX_WAITING))
        if (!known.has(name)) await rm(path.join(place, name), { force: true });
      for (const name of names.slice(-MAX_WAITING)) {
        if (known.has(name)) continue;
        const one = await adoptOne(place, name, now()).catch(() => undefined);
        if (!one) continue;
        known.add(one.file);
        found.push(one);
      }
      return found;
    },
  };
}

async function adoptOne(place: string, name: string, now: number): Promise<(Waiting & { file: string }) | undefined> {
  const file = path.join(place, name);
  const { mtimeMs } = await stat(file);
  if (Math.abs(now - mtimeMs) < ADOPT_AFTER_MS) return undefined;
  const taken = `${name.slice(0, 24)}-${randomUUID().slice(0, 8)}.json`;
  // Only one process can rename it. The process that made it then does not send it again.
  await rename(file, path.join(place, taken));
  const { success, data } = stored.safeParse(await readJson(path.join(place, taken)));
  if (success) return { at: data.at, message: data.message as unknown as Message, file: taken };
  await rm(path.join(place, taken), { force: true });
  return undefined;
}

/** Leaves out the log of a run, which is the largest part of a message. */
function small(message: Message): Message {
  const { event } = message;
  if (event.type !== 'run-finished') return message;
  return { ...message, event: { ...event, report: { ...event.report, logTail: [] } } };
}
