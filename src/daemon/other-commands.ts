import { readdir, readFile, readlink } from 'node:fs/promises';

/**
 * Returns the process ids of the other commands of Lifeboat that run in this container, see proc(5). Other containers
 * that share the process ids have a mount namespace of their own.
 *
 * @param script path of the program, as Node was started with it
 */
export async function otherCommands(script: string): Promise<number[]> {
  const namespace = (pid: number | 'self') => readlink(`/proc/${pid}/ns/mnt`);
  const own = await namespace('self');
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).map(Number)) {
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
      const at = argv.indexOf(script);
      // The command that started a tree job ends it.
      const isCommand = at > 0 && argv[at + 1] !== 'tree-job';
      if (isCommand && (await namespace(pid)) === own) found.push(pid);
    } catch {
      // It has ended, or belongs to a user who may do more.
    }
  }
  return found;
}
