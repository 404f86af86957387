import { randomBytes } from 'node:crypto';

const SNAPSHOT_ID = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z-([0-9a-f]{6})$/;

/**
 * Returns a new snapshot id: UTC time to the second and six random hex digits, e.g. `20261120T030000Z-4f1c9a`. Ids sort
 * by time and contain no colon, so they are valid names in any file system.
 *
 * @param random at least 3 bytes
 */
export function newSnapshotId(date: Date, random: Buffer = randomBytes(3)): string {
  const time = date
    .toISOString()
    .replace(/\.\d+Z$/, 'Z')
    .replaceAll(/[-:]/g, '');
  return `${time}-${random.toString('hex', 0, 3)}`;
}

/** Parses a snapshot id; undefined if it is not one. */
export function parseSnapshotId(id: string): { date: Date; suffix: string } | undefined {
  const match = SNAPSHOT_ID.exec(id);
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second, suffix] = match;
  const iso = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const date = new Date(iso);
  // The parser moves a date such as the 31st of February, so such a string is not a snapshot id.
  if (Number.isNaN(date.getTime()) || date.toISOString() !== iso) return undefined;
  return { date, suffix: suffix! };
}
