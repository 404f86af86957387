import { lstat, readFile, readlink, realpath } from 'node:fs/promises';
import path from 'node:path';
import { contains } from '../../plan/host-paths.ts';
import type { FileMounts, HostView } from '../../plan/values/file-mounts.ts';
import { pathFromText, type TreePath } from './path.ts';

/** Number of symbolic links to follow on the way to one file, as in the kernel: path_resolution(7). */
const MAX_LINKS = 40;

/**
 * Finds the places in a tree that containers mount by paths of the host. Follows symbolic links as far as they are
 * visible here, because a bind of a symbolic link mounts its target. Never throws: paths of containers are input from
 * strangers, and a path that is not in the tree does not matter.
 */
export async function findFileMounts(
  root: string,
  { paths, views: given }: FileMounts = { paths: [], views: [] },
): Promise<Set<TreePath>> {
  const found = new Set<TreePath>();
  if (paths.length === 0) return found;
  const real = await realpath(root).catch(() => root);
  const mountinfo = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '');
  const views = await Promise.all(given.map((view) => realView(view, mountinfo)));
  for (const one of paths) {
    for (const local of await resolveHostPath(one, views)) {
      if (local !== real && contains(real, local)) found.add(pathFromText(path.posix.relative(real, local)));
    }
  }
  return found;
}

/** A view with the path of its directory inside its file system, if that shows that the host path is another name. */
interface RealView extends HostView {
  inFileSystem?: string;
}

/**
 * Adds to a view where its directory really is: the host path may contain symbolic links, or be a volume that is a bind
 * of another directory.
 */
async function realView({ host, local }: HostView, mountinfo: string): Promise<RealView> {
  const real = { host: path.posix.resolve('/', host), local: await realpath(local).catch(() => local) };
  const inFileSystem = pathInFileSystem(mountinfo, real.local);
  // The host path ends with the path in the file system, unless the host path is another name.
  return inFileSystem === '/' || real.host.endsWith(inFileSystem) ? real : { ...real, inFileSystem };
}

/** Returns the path of a directory inside its file system: the field `root` of proc_pid_mountinfo(5), and the rest. */
export function pathInFileSystem(mountinfo: string, local: string): string {
  let nearest = { root: '/', point: '/' };
  for (const line of mountinfo.split('\n')) {
    const [, , , root, point] = line.split(' ').map(unescapeOctal);
    if (root === undefined || point === undefined || !contains(point, local)) continue;
    // A later mount at the same place hides an earlier one.
    if (point.length >= nearest.point.length) nearest = { root, point };
  }
  return path.posix.join(nearest.root, path.posix.relative(nearest.point, local));
}

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

/** Returns the real paths at which this process sees a file of the host. */
async function resolveHostPath(host: string, views: readonly RealView[]): Promise<string[]> {
  const found: string[] = [];
  const queue = [host];
  for (let links = 0; links < MAX_LINKS && queue.length > 0; links++) {
    const next = queue.shift()!;
    for (const view of views.flatMap((one) => viewOf(one, next))) {
      const rest = path.posix.relative(view.host, next);
      const end = await follow(view, rest);
      if (end === undefined) continue;
      if ('link' in end) queue.push(end.link);
      // Another mount may hide this part of the view.
      else if (!views.some((one) => one.local.length > view.local.length && contains(one.local, end.local)))
        found.push(end.local);
    }
  }
  return found;
}

/** Returns the view if it shows a path of the host, under the name that the path uses. */
function viewOf({ host, local, inFileSystem }: RealView, wanted: string): HostView[] {
  if (contains(host, wanted)) return [{ host, local }];
  const at = inFileSystem === undefined ? -1 : wanted.indexOf(`${inFileSystem}/`);
  return at < 0 ? [] : [{ host: wanted.slice(0, at) + inFileSystem, local }];
}

/** Follows a path down to its end, or to the first symbolic link. Returns undefined if nothing exists there. */
async function follow(view: HostView, rest: string): Promise<{ local: string } | { link: string } | undefined> {
  let { host, local } = view;
  const names = rest.split('/').filter((name) => name !== '');
  for (const [i, name] of names.entries()) {
    const above = host;
    [host, local] = [path.posix.join(host, name), path.posix.join(local, name)];
    try {
      if (!(await lstat(local)).isSymbolicLink()) continue;
      return { link: path.posix.resolve(above, await readlink(local), ...names.slice(i + 1)) };
    } catch {
      return undefined;
    }
  }
  return { local };
}
