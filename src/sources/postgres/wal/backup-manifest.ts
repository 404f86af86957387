import { createHash } from 'node:crypto';
import { z } from 'zod';
import { LifeboatError } from '../../../base/errors.ts';

/** The manifest that `pg_basebackup` adds to a base backup (Postgres docs, chapter "Backup Manifest Format"). */
export interface BackupManifest {
  /** size in bytes and hex SHA-256 of each file, by path; bytes of a path are characters */
  files: Map<string, { size: number; sha256: string }>;
  timeline: number;
  startLsn: string;
  stopLsn: string;
}

const schema = z.object({
  Files: z.array(
    z.object({
      Path: z.string().optional(),
      'Encoded-Path': z.string().optional(),
      Size: z.int(),
      'Checksum-Algorithm': z.literal('SHA256').optional(),
      Checksum: z.string().optional(),
    }),
  ),
  'WAL-Ranges': z
    .array(z.object({ Timeline: z.int().positive(), 'Start-LSN': z.string(), 'End-LSN': z.string() }))
    .min(1),
  'Manifest-Checksum': z.string(),
});

const OWN_CHECKSUM = '"Manifest-Checksum"';

/** Parses a backup manifest, and checks its own checksum. @throws PG_BASE_FAILED */
export function parseBackupManifest(bytes: Buffer): BackupManifest {
  const damaged = (cause?: unknown) =>
    new LifeboatError('PG_BASE_FAILED', 'the manifest of the base backup is damaged', { cause });
  let parsed: z.infer<typeof schema>;
  try {
    parsed = schema.parse(JSON.parse(bytes.toString('utf8')));
  } catch (error) {
    throw damaged(error);
  }
  const end = bytes.lastIndexOf(OWN_CHECKSUM);
  const sum = createHash('sha256').update(bytes.subarray(0, end)).digest('hex');
  if (sum !== parsed['Manifest-Checksum']) throw damaged();
  const files: BackupManifest['files'] = new Map();
  for (const { Path, 'Encoded-Path': encoded, Size, Checksum } of parsed.Files) {
    // Like the paths of a tar: one character for each byte.
    const path = Path === undefined ? Buffer.from(encoded ?? '', 'hex') : Buffer.from(Path);
    files.set(path.toString('latin1'), { size: Size, sha256: Checksum ?? '' });
  }
  // The last range is that of the timeline on which the backup ended. Only a backup from a standby has several.
  const {
    Timeline,
    'Start-LSN': startLsn,
    'End-LSN': stopLsn,
  } = parsed['WAL-Ranges'].at(-1) as z.infer<typeof schema>['WAL-Ranges'][number];
  return { files, timeline: Timeline, startLsn, stopLsn };
}
