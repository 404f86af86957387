import { leftOutNames, MOUNT_HINT, runningData } from '../backup/tree-warnings.ts';
import type { FilesSource, Note, Problem, VolumeSource } from '../plan/model.ts';
import type { MeasuredTree } from '../store/content/measure-tree.ts';

/** Returns findings about files: data directories left out, or copied while in use; databases without their log. */
export function treeFindings(
  source: VolumeSource | FilesSource,
  { dataDirectories, withoutLog }: Pick<MeasuredTree, 'dataDirectories' | 'withoutLog'>,
): { problems: Problem[]; notes: Note[] } {
  const names = leftOutNames(dataDirectories);
  const notes = names.length === 0 ? [] : [{ subject: source.name, message: `leaves out ${names.join(', ')}` }];
  const problems: Problem[] = [];
  if (withoutLog.length > 0) {
    const message = `${source.name} holds an SQLite database without its log (${withoutLog.join(', ')}): only the file is mounted`;
    problems.push({ severity: 'error', code: 'SQLITE_TORN', subject: source.name, message, hint: MOUNT_HINT });
  }
  const running = runningData(source, dataDirectories);
  if (running) problems.push({ severity: 'warning', code: 'LABEL_INVALID', subject: source.containerName, ...running });
  return { problems, notes };
}
