import { randomUUID } from 'node:crypto';
import { readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { errorInfo, hasErrno, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { cleanReport } from '../report/clean.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import type { Message } from './message.ts';
import { hasEnded, processName } from './process-name.ts';

/** Messages of one channel that wait, apart from alarms. When there are more, the oldest ones are dropped. */
export const MAX_WAITING = 20;
/** All messages of one channel that wait. */
export const MAX_ALL = 200;
/** A larger message is not stored, in bytes of JSON. */
const MAX_BYTES = 512 * 1024;
/** A process that still runs claims its message again within this time, or is not sending it. Milliseconds. */
const ADOPT_AFTER_MS = 60_000;
/** A file that a process writes is younger, milliseconds. */
const TEMPORARY_MS = 60 * 60_000;
/** The last time that a Date can hold, milliseconds since 1970. */
const MAX_TIME = 8.64e15;

/** A message that is not sent yet. */
export interface Waiting {
  /** the same in all processes */
  id: string;
  message: Message;
  /** when it was worded, milliseconds since 1970 */
  at: number;
  /** name of its file; absent if it is only in memory */
  file?: string | undefined;
}

/**
 * The messages of one channel that are not sent yet, in files of the state. Only the process that renamed a file last
 * may send its message.
 */
export interface OutboxFiles {
  /**
   * Stores a message, without secrets.
   *
   * @returns the name of its file
   * @throws SPOOL_FULL; NOTIFY_FAILED if the message is too large
   */
  save(one: Waiting): Promise<string>;
  /**
   * Claims a message for this process, right before it is sent.
   *
   * @returns the new name of its file; `taken`: another process has it; `gone`: there is no such message any more
   * @throws an error of the file system
   */
  claim(file: string): Promise<{ file: string } | 'taken' | 'gone'>;
  /** @throws an error of the file system */
  remove(file: string): Promise<void>;
  /** Takes over the messages that no process sends, oldest first. `own`: names of files to leave. Never rejects. */
  adopt(own: ReadonlySet<string>): Promise<Waiting[]>;
}

/** Options of {@link openOutboxFiles}. */
interface FilesOptions {
  /** of the state */
  directory: string;
  channel: string;
  log: Log;
  /** milliseconds since 1970 */
  now(): number;
}

const lines = z.array(z.string());
/** The members of a message that every channel reads. Channels that show the event check it themselves. */
const stored = z.object({
  format: z.literal(1),
  at: z.int().min(0).max(MAX_TIME),
  message: z.looseObject({
    event: z.looseObject({ type: z.string() }),
    ...{ project: z.string(), at: z.string(), title: z.string(), facts: lines, safe: lines, next: lines },
    level: z.enum(['bad', 'warning', 'good', 'info']),
    incidents: z.array(z.object({ key: z.string(), over: z.boolean(), summary: z.string() })),
  }),
});

/** The same, with the directory of the channel. */
type Place = FilesOptions;

/** Opens the files of a channel. They need not exist. */
export function openOutboxFiles(options: FilesOptions): OutboxFiles {
  const { channel, log } = options;
  const place: Place = { ...options, directory: path.join(options.directory, 'outbox', channel) };
  return {
    async save({ id, message, at }) {
      const document = { format: 1, at, message: cleanReport(small(message)) };
      if (Buffer.byteLength(JSON.stringify(document)) > MAX_BYTES)
        throw new LifeboatError('NOTIFY_FAILED', 'the message is larger than 512 KiB');
      const name = nameOf({ at, id, isAlarm: message.event.type === 'alarms', owner: processName() });
      await writeJson(path.join(place.directory, name), document);
      await trim(place).catch((error: unknown) =>
        log.warn('old messages cannot be removed', { listener: channel, ...errorInfo(error) }),
      );
      return name;
    },
    claim: (file) => claim(place, file),
    remove: (file) => remove(place, file),
    async adopt(own) {
      const found: Waiting[] = [];
      for (const name of (await list(place)).filter((one) => isMessage(one) && !own.has(one))) {
        // Another process may remove it meanwhile.
        const one = await adoptOne(place, name).catch((error: unknown) => {
          if (!hasErrno(error, 'ENOENT'))
            log.warn('a message cannot be taken over', { listener: channel, file: name, ...errorInfo(error) });
          return undefined;
        });
        if (one) found.push(one);
      }
      return found;
    },
  };
}

async function claim({ directory, now }: Place, file: string): ReturnType<OutboxFiles['claim']> {
  const next = nameOf({ ...partsOf(file), owner: processName() });
  const at = new Date(now());
  try {
    // First the time, so that no moment exists in which the file has a new name and an old time.
    await utimes(path.join(directory, file), at, at);
    await rename(path.join(directory, file), path.join(directory, next));
    return { file: next };
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    const { id } = partsOf(file);
    return (await list({ directory })).some((name) => isMessage(name) && partsOf(name).id === id) ? 'taken' : 'gone';
  }
}

async function adoptOne(place: Place, name: string): Promise<Waiting | undefined> {
  const { directory, channel, log, now } = place;
  const { id, owner } = partsOf(name);
  if (!hasEnded(owner)) {
    const { mtimeMs } = await stat(path.join(directory, name));
    if (Math.abs(now() - mtimeMs) < ADOPT_AFTER_MS) return undefined;
  }
  const claimed = await claim(place, name);
  if (typeof claimed === 'string') return undefined;
  const { file } = claimed;
  const { success, data } = stored.safeParse(await readJson(path.join(directory, file)));
  if (success) return { id, at: data.at, message: data.message as unknown as Message, file };
  log.error('a message was never sent: its file is damaged or of an unknown format', { listener: channel, file });
  await remove(place, file);
  return undefined;
}

/** Removes what is too much. Without a daemon, nobody else removes what commands leave. */
async function trim(place: Place): Promise<void> {
  const { directory, channel, log, now } = place;
  const names = await list(place);
  for (const name of names.filter((one) => one.endsWith('.tmp'))) {
    const found = await stat(path.join(directory, name)).catch(() => undefined);
    if (found && now() - found.mtimeMs > TEMPORARY_MS) await remove(place, name);
  }
  const all = names.filter(isMessage);
  const left = all.filter((name) => !partsOf(name).isAlarm).slice(0, -MAX_WAITING);
  const rest = all.filter((name) => !left.includes(name)).slice(0, -MAX_ALL);
  for (const file of [...left, ...rest]) {
    const document = await readJson<{ message?: Message }>(path.join(directory, file)).catch(() => undefined);
    log.error('a message was never sent: too many wait', { listener: channel, title: document?.message?.title, file });
    await remove(place, file);
  }
}

async function list({ directory }: Pick<Place, 'directory'>): Promise<string[]> {
  return (await readdir(directory).catch(() => [])).sort();
}

const isMessage = (name: string) => name.endsWith('.json');

async function remove({ directory }: Pick<Place, 'directory'>, file: string): Promise<void> {
  await rm(path.join(directory, file), { force: true });
}

/** The parts of a file's name, which sorts by time. */
interface NameParts {
  at: number;
  id: string;
  isAlarm: boolean;
  /** the process that claimed it last */
  owner: string;
}

function nameOf({ at, id, isAlarm, owner }: NameParts): string {
  const kind = isAlarm ? 'alarm' : 'news';
  return `${String(at).padStart(16, '0')}-${id}-${kind}-${owner}-${randomUUID().slice(0, 8)}.json`;
}

/** Reads a name. A file of another name is a message of unknown origin. */
function partsOf(name: string): NameParts {
  const [, at = '0', id = name.slice(0, 40), kind = 'news', owner = ''] =
    /^(\d{16})-([^-]{1,40})-(alarm|news)-([\w.]*)-\w+\.json$/.exec(name) ?? [];
  return { at: Number(at), id: id.replaceAll('-', '_').replace(/\.json$/, ''), isAlarm: kind === 'alarm', owner };
}

/** Leaves out the log of a run, which is the largest part of a message. */
function small(message: Message): Message {
  const { event } = message;
  if (event.type !== 'run-finished') return message;
  return { ...message, event: { ...event, report: { ...event.report, logTail: [] } } };
}
