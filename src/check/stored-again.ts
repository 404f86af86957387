import type { Note, Plan } from '../plan/model.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import { formatBytes } from '../report/format.ts';
import { lastStoredOf } from '../run/history.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { isSealedWith } from '../store/seal/encryption.ts';

/** Unchanged content that the next run stores again. */
export interface StoredAgain {
  /** stored bytes of the packs that the run cannot use */
  bytes: number;
  notes: Note[];
}

interface StoredAgainDeps {
  plan: Pick<Plan, 'sources'>;
  repository: Pick<Repository, 'readPackList' | 'keys'>;
  /** newest first */
  manifests: readonly Manifest[];
  /** keys of the objects that `lifeboat check` found damaged */
  damaged: ReadonlySet<string>;
  signal: AbortSignal;
}

/**
 * Returns how much the next run stores again, and why: packs of the last snapshots that are encrypted with other keys,
 * or damaged, cannot be used. A source with an unreadable list of packs does not count.
 */
export async function foreseeStoredAgain(deps: StoredAgainDeps): Promise<StoredAgain> {
  const { plan, repository, manifests, damaged, signal } = deps;
  const otherKeys: [string, number][] = [];
  const broken: [string, number][] = [];
  for (const { name } of plan.sources) {
    const last = lastStoredOf(manifests, name);
    if (!last) continue;
    const packs = await readPacks(repository, last.entry, signal).catch(() => []);
    const others = packs.filter((pack) => !isSealedWith(pack, repository.keys));
    const lost = packs.filter((pack) => damaged.has(pack.key) && !others.includes(pack));
    if (others.length > 0) otherKeys.push([name, sizeOf(others)]);
    if (lost.length > 0) broken.push([name, sizeOf(lost)]);
  }
  const notes = [
    ...(otherKeys.length === 0
      ? []
      : [
          {
            subject: keySetting(repository.keys),
            message: `the encryption keys are not those of the last snapshot, so the next backup stores about ${formatBytes(sum(otherKeys))} again (${listOf(otherKeys)}); older snapshots still need the old keys`,
          },
        ]),
    ...broken.map((one) => ({
      subject: one[0],
      message: `\`lifeboat check\` found damaged packs, so the next backup stores about ${formatBytes(one[1])} again`,
    })),
  ];
  return { bytes: sum([...otherKeys, ...broken]), notes };
}

const sizeOf = (packs: readonly { size: number }[]) => packs.reduce((total, { size }) => total + size, 0);

const sum = (sizes: readonly [string, number][]) => sizes.reduce((total, [, bytes]) => total + bytes, 0);

/** `db.postgres 8 MiB, web.media 4 MiB` */
const listOf = (sizes: readonly [string, number][]) =>
  sizes.map(([name, bytes]) => `${name} ${formatBytes(bytes)}`).join(', ');

/** Returns the setting that names the keys of new objects. */
function keySetting({ ageRecipients, gpgRecipients, gpgPassphrase }: SealKeys): string {
  if (ageRecipients !== undefined) return 'LIFEBOAT_AGE_RECIPIENTS';
  if (gpgRecipients !== undefined) return 'LIFEBOAT_GPG_RECIPIENTS';
  return gpgPassphrase !== undefined ? 'LIFEBOAT_GPG_PASSPHRASE' : 'LIFEBOAT_ENCRYPTION';
}
