import { endianness } from 'node:os';
import path from 'node:path';
import { readContainerFile } from '../../../docker/container-file.ts';
import type { Engine } from '../../../docker/engine.ts';
import { isForbidden, statusOf } from '../../../docker/engine-errors.ts';
import type { PostgresSource } from '../../../plan/model.ts';

/** A running server by its own record, `postmaster.pid` (Postgres source, miscadmin.h, "lock file contents"). */
export interface Postmaster {
  /** the lines that stay the same while it runs: process, directory, start, port, socket, address, shared memory */
  lines: string[];
  dataDirectory: string;
  /** when the process began, seconds since the epoch; it tells clients a time some moments later */
  startedAt: number;
  port: number;
  /** of the first Unix socket; empty for none */
  socketDirectory: string;
  /** the first address it listens on: `*`, `localhost`, an IP; empty when it listens on none */
  listenAddress: string;
}

/** Reads `postmaster.pid`. Undefined for a text that is none, or of a server that has only begun to write it. */
export function parsePostmaster(text: string): Postmaster | undefined {
  const lines = text
    .split('\n')
    .slice(0, 7)
    .map((line) => line.trim().replaceAll(/\s+/g, ' '));
  const [pid, dataDirectory = '', started, port, socketDirectory = '', listenAddress = ''] = lines;
  const isNumber = (line: string | undefined) => /^-?\d+$/.test(line ?? '');
  if (lines.length < 6 || !isNumber(pid) || !isNumber(started) || !isNumber(port)) return undefined;
  const numbers = { startedAt: Number(started), port: Number(port) };
  return { lines, dataDirectory, ...numbers, socketDirectory, listenAddress };
}

/** What the file system of a database container says of the server in it. */
export interface ContainerServer {
  /** absent where no `postmaster.pid` was found */
  postmaster?: Postmaster;
  /** from `global/pg_control`, beside the record or, without one, of the surest directory: a standby has its primary's */
  systemIdentifier?: string;
  /** without a record: the engine, or a proxy before it, lets nobody read files of containers */
  refused?: true;
  /** without a record: a file could not be read, which says nothing of whether it is there */
  unread?: true;
}

/**
 * Looks for the server's own record in the container's file system: in the directories that planning found, and in the one that its
 * configuration file names. Nothing is started in the container. Errors: ENGINE_*, but not a refusal.
 */
export async function findServer(
  engine: Engine,
  source: PostgresSource,
  { signal }: { signal: AbortSignal },
): Promise<ContainerServer> {
  let refused = false;
  let unread = false;
  let withoutRecord: string | undefined;
  // What cannot be read in one place says nothing of the others.
  const read = async (file: string) => {
    try {
      return await readContainerFile(engine, source.containerId, file, { signal, limit: 256 * 1024 });
    } catch (error) {
      if (statusOf(error) === undefined) throw error;
      refused ||= isForbidden(error);
      unread = true;
      return undefined;
    }
  };
  const configured = await dataDirectoryOf(source, read);
  for (const directory of new Set([configured, ...source.dataDirectories].filter((one) => one !== undefined))) {
    const names = ['postmaster.pid', 'global/pg_control'];
    const [file, control] = await Promise.all(names.map((name) => read(path.posix.join(directory, name))));
    const postmaster = file && parsePostmaster(file.toString('utf8'));
    const systemIdentifier = control && systemIdentifierOf(control);
    if (postmaster) return { postmaster, ...(systemIdentifier === undefined ? {} : { systemIdentifier }) };
    withoutRecord ??= systemIdentifier;
  }
  return {
    ...(withoutRecord === undefined ? {} : { systemIdentifier: withoutRecord }),
    ...(refused ? { refused } : {}),
    ...(unread ? { unread } : {}),
  };
}

/** `data_directory` of a configuration file that lies elsewhere (Postgres docs, 19.2). */
async function dataDirectoryOf(
  { configFile }: PostgresSource,
  read: (file: string) => Promise<Buffer | undefined>,
): Promise<string | undefined> {
  if (configFile === undefined || !configFile.startsWith('/')) return undefined;
  const text = (await read(configFile))?.toString('utf8') ?? '';
  return [...text.matchAll(/^\s*data_directory\s*=?\s*'?([^'#\n]+?)'?\s*(?:#.*)?$/gim)].at(-1)?.[1];
}

/** The first member of ControlFileData (pg_control.h), in the byte order of the machine. */
function systemIdentifierOf(control: Buffer): string | undefined {
  if (control.length < 8) return undefined;
  return String(endianness() === 'LE' ? control.readBigUInt64LE(0) : control.readBigUInt64BE(0));
}
