import { endianness } from 'node:os';
import path from 'node:path';
import { readContainerFile } from '../../../docker/container-file.ts';
import type { Engine } from '../../../docker/engine.ts';
import { engineStatusOf, isForbidden } from '../../../docker/engine-errors.ts';
import type { PostgresSource } from '../../../plan/model.ts';

/**
 * The contents of `postmaster.pid`, which a running server writes (Postgres source, miscadmin.h, "lock file contents").
 */
export interface Postmaster {
  /** the lines that do not change while it runs: process, directory, start, port, socket, address, shared memory */
  lines: string[];
  dataDirectory: string;
  /** start of the process, seconds since the epoch; the server reports a slightly later time to clients */
  startedAt: number;
  port: number;
  /** directory of the first Unix socket; empty for none */
  socketDirectory: string;
  /** the first address that it listens on: `*`, `localhost`, an IP address; empty for none */
  listenAddress: string;
}

/**
 * Parses `postmaster.pid`. Returns undefined for an invalid text, and for one that the server has not written
 * completely.
 */
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

/** The server of a container, as recorded in the container's file system. */
export interface ContainerServer {
  /** absent if no `postmaster.pid` was found */
  postmaster?: Postmaster;
  /**
   * from `global/pg_control` in the directory of `postmaster.pid`, else in the most certain directory; a standby has
   * the identifier of its primary
   */
  systemIdentifier?: string;
  /** no `postmaster.pid` was found, and the engine or a proxy refuses to read files of containers */
  refused?: true;
  /** no `postmaster.pid` was found, but at least one file could not be read and may exist */
  unread?: true;
}

/**
 * Searches the container's file system for `postmaster.pid`: in the directories that planning found, and in the
 * directory that the configuration file names. Starts nothing in the container.
 *
 * @throws ENGINE_*, except for a refusal
 */
export async function findServer(
  engine: Engine,
  source: PostgresSource,
  { signal }: { signal: AbortSignal },
): Promise<ContainerServer> {
  let refused = false;
  let unread = false;
  let withoutRecord: string | undefined;
  // If one file cannot be read, others still may.
  const read = async (file: string) => {
    try {
      return await readContainerFile(engine, source.containerId, file, { signal, limit: 256 * 1024 });
    } catch (error) {
      if (engineStatusOf(error) === undefined) throw error;
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

/** Returns `data_directory` of a configuration file outside the data directory (Postgres docs, 19.2). */
async function dataDirectoryOf(
  { configFile }: PostgresSource,
  read: (file: string) => Promise<Buffer | undefined>,
): Promise<string | undefined> {
  if (configFile === undefined || !configFile.startsWith('/')) return undefined;
  const text = (await read(configFile))?.toString('utf8') ?? '';
  return [...text.matchAll(/^\s*data_directory\s*=?\s*'?([^'#\n]+?)'?\s*(?:#.*)?$/gim)].at(-1)?.[1];
}

/** Reads the first member of ControlFileData (pg_control.h), in the byte order of the machine. */
function systemIdentifierOf(control: Buffer): string | undefined {
  if (control.length < 8) return undefined;
  return String(endianness() === 'LE' ? control.readBigUInt64LE(0) : control.readBigUInt64BE(0));
}
