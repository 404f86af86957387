import { stat } from 'node:fs/promises';
import type { Mount, Problem } from '../plan/model.ts';

/**
 * Single files mounted below `root` that were replaced on the host. A mount of one file stays with the file that it was made
 * with: when an editor writes a new file and renames it into place, the old content, which no directory has any more (a
 * link count of 0), is what the agent goes on seeing.
 */
export async function staleFiles(mounts: readonly Mount[], root: string): Promise<Problem[]> {
  const problems: Problem[] = [];
  for (const { destination } of mounts) {
    if (!destination.startsWith(`${root}/`)) continue;
    const links = await stat(destination).then(
      ({ nlink }) => nlink,
      () => undefined,
    );
    if (links !== 0) continue;
    problems.push({
      severity: 'warning',
      code: 'CONFIG_STALE',
      subject: 'config',
      message: `${destination} was replaced on the host, and what is backed up is the old file`,
      hint: 'docker compose restart lifeboat. A mounted directory does not go stale.',
    });
  }
  return problems;
}
