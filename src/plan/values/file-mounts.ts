/** Paths that containers mount without the files next to them. `findFileMounts` finds those in a tree. */
export interface FileMounts {
  /** paths on the host */
  paths: readonly string[];
  /** directories of the host that the reader of the tree sees, with the paths at which it sees them */
  views: readonly HostView[];
}

/** A file or directory of the host, and where a process sees it. Both paths are absolute. */
export interface HostView {
  host: string;
  local: string;
}

/** Which data directories of databases the tree of a source leaves out. */
export type LeftOutData = 'all' | 'PostgreSQL';
