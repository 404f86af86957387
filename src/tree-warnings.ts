import { LifeboatError } from './errors.ts';
import type { StoredTree } from './store/stored-tree.ts';

/** What a stored tree comes to for people. */

const SHOWN = 3;

const SPECIAL: Record<string, string> = { char: 'character device', block: 'block device' };

/** Why a source is only partly stored. */
export function unreadableError(source: string, stored: StoredTree): LifeboatError {
  const shown = stored.unreadable
    .slice(0, SHOWN)
    .map((issue) => `${issue.path} (${issue.message})`)
    .join(', ');
  return new LifeboatError(
    'TREE_UNREADABLE',
    `${stored.unreadableCount} paths of ${source} could not be read: ${shown}`,
    {
      hint: 'Everything else is stored. Look at the file system and the permissions of these paths.',
    },
  );
}

/** What is to be known of a tree although it is stored whole. */
export function treeWarnings(stored: StoredTree): string[] {
  const warnings = [...stored.warnings];
  if (stored.changedCount > 0) {
    const shown = stored.changed
      .slice(0, SHOWN)
      .map((issue) => issue.path)
      .join(', ');
    warnings.push(`${stored.changedCount} files kept changing while they were read, among them ${shown}`);
  }
  const skipped = Object.entries(stored.skipped).filter(([, count]) => count > 0);
  if (skipped.length > 0) {
    const named = skipped.map(([type, count]) => `${count} ${SPECIAL[type] ?? type}`);
    warnings.push(`without content, so only recorded: ${named.join(', ')}`);
  }
  return warnings;
}
