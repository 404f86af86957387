import { plural } from '../../report/format.ts';
import { shortPath, type TreePath } from '../filesystem/path.ts';

/** Why a member of an archive is not in the unpacked tree. */
type Reason = 'special' | 'stripped' | 'replaced';

const WARNINGS: Readonly<Record<Reason, (count: number) => string>> = {
  special: (count) => `${plural(count, 'device, FIFO or socket', 'devices, FIFOs or sockets')} left out`,
  stripped: (count) => `${plural(count, 'file')} left out, because --strip removes the whole name`,
  replaced: (count) => `${plural(count, 'entry', 'entries')} replaced by a later one with the same name`,
};

/** Counts the members of an archive that are not in the unpacked tree. */
export class LostMembers {
  private readonly found = new Map<Reason, { count: number; first: TreePath }>();

  add(reason: Reason, name: TreePath): void {
    const { count, first } = this.found.get(reason) ?? { count: 0, first: name };
    this.found.set(reason, { count: count + 1, first });
  }

  warnings(): string[] {
    return [...this.found].map(([reason, { count, first }]) => {
      const more = count > 1 ? ' and others' : '';
      return `${WARNINGS[reason](count)}: ${shortPath(first)}${more}`;
    });
  }
}
