import { runningData } from '../backup/tree-warnings.ts';
import type { FilesSource, Note, Problem, VolumeSource } from '../plan/model.ts';
import { leftOutOf } from '../sources/volume.ts';
import type { MeasuredTree } from '../store/content/measure-tree.ts';

/** Returns findings about a source's files: data directories that are left out, or copied while their server runs. */
export function treeFindings(
  source: VolumeSource | FilesSource,
  { dataDirectories }: Pick<MeasuredTree, 'dataDirectories'>,
): { problems: Problem[]; notes: Note[] } {
  const leaveOut = leftOutOf(source);
  const left = dataDirectories.filter(({ kind }) => leaveOut === 'all' || leaveOut === kind);
  const names = left.map(({ path, kind }) => (path === '.' ? kind : `${path} (${kind})`));
  const notes = left.length === 0 ? [] : [{ subject: source.name, message: `leaves out ${names.join(', ')}` }];
  const running = runningData(source, dataDirectories);
  if (!running) return { problems: [], notes };
  return {
    problems: [{ severity: 'warning', code: 'LABEL_INVALID', subject: source.containerName, ...running }],
    notes,
  };
}
