import { stat } from 'node:fs/promises';
import type { Mount, Problem } from '../plan/model.ts';

/**
 * Finds single files mounted below `root` that were replaced on the host. The mount of a file keeps showing the
 * original file. If an editor writes a new file and renames it into place, the agent still sees the old one, whose link
 * count is then 0.
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
      message: `${destination} was replaced on the host, but Lifeboat still backs up the old file`,
      hint: 'Run `docker compose restart lifeboat`. A mounted directory does not go stale.',
    });
  }
  return problems;
}
