import { type ErrorCode, hasCode, LifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import { lacksRegion, nameOf, parseLocation } from '../plan/location.ts';
import { isS3 } from '../plan/s3-location.ts';
import type { Settings } from '../plan/settings.ts';
import { quote } from '../plan/values/fields.ts';

/** A repository that is not the agent's own: `--from`. */
export interface OtherRepository {
  /** as it was asked for: the name or number of a copy, a directory, `s3://…` */
  from: string;
  /** the Compose project in it; absent: the agent's own, or the only one */
  project?: string;
}

/**
 * Where a repository is that was asked for: a copy by its name or its number in LIFEBOAT_COPY (from 1), or any other place.
 *
 * @throws USAGE
 */
export function locationOf(from: string, { copies, awsRegion }: Pick<Settings, 'copies' | 'awsRegion'>): string {
  const copy = copies.find(({ name }, i) => from === String(i + 1) || nameOf(from) === name);
  // With options it may be the same prefix elsewhere.
  if (copy && !from.includes('?')) return copy.location;
  const refuse = (message: string, hint: string) => new LifeboatError('USAGE', message, { hint });
  const known = copies.map(({ name }, i) => `${i + 1} (${name})`).join(', ');
  if (!from.startsWith('/') && !isS3(from)) {
    const hint = known === '' ? 'Write a directory or s3://bucket/prefix?…' : `The copies are: ${known}.`;
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
 * The Compose project to restore from a repository of another host.
 *
 * @throws SNAPSHOT_UNKNOWN when it holds none of that name; USAGE when there are several and none was named
 */
export async function projectIn(destination: Destination, wanted: string | undefined, own: string): Promise<string> {
  const likely = wanted ?? own;
  // Without going through all that there is, which in a bucket takes its time.
  if (likely !== '') for await (const _ of destination.list(`${likely}/snapshots/`)) return likely;
  const found = new Set<string>();
  for await (const { key } of destination.list('')) {
    const [project = '', folder] = key.split('/');
    if (folder === 'snapshots') found.add(project);
  }
  const names = [...found].sort();
  const hint = names.length === 0 ? 'Is that the place with lifeboat.json?' : `It holds: ${names.join(', ')}.`;
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

/** What says that the destination cannot be read, or not what should be there. */
const LOST: readonly ErrorCode[] = [
  ...(['OBJECT_MISSING', 'OBJECT_DAMAGED', 'SIGNATURE_WRONG', 'SIGNATURE_MISSING', 'CHAIN_BROKEN'] as const),
  ...(['DEST_UNREACHABLE', 'DEST_UNWRITABLE', 'DEST_FOREIGN', 'DEST_NOT_MOUNTED', 'SNAPSHOT_UNKNOWN'] as const),
];

/** The same error, with a word on where else there is what could not be read. */
export function hintAtCopies(error: unknown, { copies }: Pick<Settings, 'copies'>): unknown {
  if (copies.length === 0 || !hasCode(error, ...LOST)) return error;
  const names = copies.map(({ name }) => `--from ${name}`).join(' or ');
  const hint = `${error.hint ? `${error.hint} ` : ''}A copy may have it: ${names}.`;
  return new LifeboatError(error.code, error.message, { cause: error.cause, hint });
}
