import { type ErrorCode, hasCode, LifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import { lacksRegion, nameOf, parseLocation } from '../plan/location.ts';
import { isS3 } from '../plan/s3-location.ts';
import type { Settings } from '../plan/settings.ts';
import { quote } from '../plan/values/fields.ts';
import { shellWord } from '../report/restore-command.ts';

/** A repository that is not the agent's own: `--from`. Or another project to restore into: `--into-project`. */
export interface OtherRepository {
  /** as given: the name or number of a copy, a directory, or `s3://…`; absent: the agent's own destination */
  from?: string;
  /** the Compose project in it; absent: the agent's own, or the only one */
  project?: string;
  /** the Compose project to restore into; absent: the agent's own */
  into?: string;
}

/**
 * Resolves `--from`: the name of a copy, its number in LIFEBOAT_COPY (from 1), or any other place.
 *
 * @throws USAGE
 */
export function locationOf(from: string, { copies, awsRegion }: Pick<Settings, 'copies' | 'awsRegion'>): string {
  const copy = copies.find(({ name, location }, i) => {
    // With options, the same name may mean another server.
    const isBare = !from.includes('?') && nameOf(from) === nameOf(location);
    return from === String(i + 1) || from === name || isBare;
  });
  if (copy) return copy.location;
  const refuse = (message: string, hint: string) => new LifeboatError('USAGE', message, { hint });
  const known = copies.map(({ name }, i) => `${i + 1} (${name})`).join(', ');
  if (!from.startsWith('/') && !isS3(from)) {
    const hint = known === '' ? 'Give a directory or s3://bucket/prefix?….' : `The copies are: ${known}.`;
    throw refuse(`--from ${quote(from)} is neither a copy nor a location`, hint);
  }
  const parsed = parseLocation(from);
  if ('problem' in parsed) {
    throw refuse(
      `--from ${parsed.hidden ? '' : `${quote(from)} `}${parsed.problem}`,
      `${parsed.hint ?? 'Correct it'}.`,
    );
  }
  if (awsRegion === undefined && lacksRegion(parsed.value)) {
    throw refuse('--from names neither a region nor an endpoint', 'Add ?region=… for AWS, or ?endpoint=https://….');
  }
  return parsed.value;
}

/**
 * Finds the Compose project in a repository of another host.
 *
 * @throws SNAPSHOT_UNKNOWN if it has no snapshot of that project; USAGE if it has several projects and none was named
 */
export async function projectIn(destination: Destination, wanted: string | undefined, own: string): Promise<string> {
  const likely = wanted ?? own;
  // Looks for the likely one first: listing a whole bucket takes long.
  if (likely !== '') for await (const _ of destination.list(`${likely}/snapshots/`)) return likely;
  const names = await listProjects(destination);
  const hint =
    names.length === 0 ? 'Name the directory or prefix that holds lifeboat.json.' : `It holds: ${names.join(', ')}.`;
  if (wanted !== undefined) {
    throw new LifeboatError('SNAPSHOT_UNKNOWN', `${destination.name} holds no snapshot of project ${wanted}`, { hint });
  }
  if (names.length === 1) return names[0] as string;
  if (names.length === 0) {
    throw new LifeboatError('SNAPSHOT_UNKNOWN', `${destination.name} holds no snapshot`, { hint });
  }
  throw new LifeboatError('USAGE', `${destination.name} holds several projects`, {
    hint: `${hint} Name one with --project.`,
  });
}

/** Returns the projects of a repository, sorted. Lists everything that it has. */
export async function listProjects(destination: Destination): Promise<string[]> {
  const found = new Set<string>();
  for await (const { key } of destination.list('')) {
    const [project = '', folder] = key.split('/');
    if (folder === 'snapshots') found.add(project);
  }
  return [...found].sort();
}

/** Codes that mean that the destination, or something in it, cannot be read or is not what it should be. */
const LOST: readonly ErrorCode[] = [
  ...(['OBJECT_MISSING', 'OBJECT_DAMAGED', 'SIGNATURE_WRONG', 'SIGNATURE_MISSING', 'CHAIN_BROKEN'] as const),
  ...(['DEST_UNREACHABLE', 'DEST_UNWRITABLE', 'DEST_FOREIGN', 'DEST_NOT_MOUNTED', 'SNAPSHOT_UNKNOWN'] as const),
];

/** Adds to the hint of such an error that a copy may have the data. */
export function hintAtCopies(error: unknown, { copies }: Pick<Settings, 'copies'>): unknown {
  if (copies.length === 0 || !hasCode(error, ...LOST)) return error;
  const names = copies.map(({ name }) => `--from ${shellWord(name)}`).join(' or ');
  const hint = `${error.hint ? `${error.hint} ` : ''}A copy may have it: ${names}.`;
  return new LifeboatError(error.code, error.message, { cause: error.cause, hint });
}
