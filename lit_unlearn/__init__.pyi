# The public names of the package and their modules, which `__init__.py` reads.

from lit_unlearn.callbacks import (
    AnswerEvaluation as AnswerEvaluation,
    GradientMonitor as GradientMonitor,
    HuggingFaceExport as HuggingFaceExport,
    LossBounds as LossBounds,
    PredictionFile as PredictionFile,
    Resumable as Resumable,
    SuiteEvaluation as SuiteEvaluation,
    Throughput as Throughput,
    WeightInterpolation as WeightInterpolation,
)
from lit_unlearn.data.contexts import (
    Adaptive as Adaptive,
    Context as Context,
    ContextRow as ContextRow,
    Demonstrations as Demonstrations,
    Echo as Echo,
    Instruction as Instruction,
    Intent as Intent,
    NoContext as NoContext,
)
from lit_unlearn.data.datamodule import UnlearnDataModule as UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData as ObjectiveData
from lit_unlearn.data.places import Source as Source
from lit_unlearn.data.prefills import Prefills as Prefills
from lit_unlearn.data.unify import load_examples as load_examples
from lit_unlearn.distributed.strategy import FSDP2Strategy as FSDP2Strategy
from lit_unlearn.errors import InputError as InputError
from lit_unlearn.evaluation.audit_metrics import Pools as Pools, audit_metrics as audit_metrics
from lit_unlearn.evaluation.compare import compare as compare
from lit_unlearn.evaluation.conditions import (
    Condition as Condition,
    EnsembleTeacher as EnsembleTeacher,
    PromptGuard as PromptGuard,
)
from lit_unlearn.evaluation.evaluate import Evaluation as Evaluation, evaluate as evaluate
from lit_unlearn.evaluation.probes import Suite as Suite
from lit_unlearn.evaluation.subjects import Loading as Loading
from lit_unlearn.evaluation.suites.boundary import Boundary as Boundary
from lit_unlearn.evaluation.suites.depth import Depth as Depth
from lit_unlearn.evaluation.suites.formats import Formats as Formats
from lit_unlearn.evaluation.suites.input_attacks import (
    FewShot as FewShot,
    InContext as InContext,
    Paraphrase as Paraphrase,
    Prefill as Prefill,
    ReversePrompt as ReversePrompt,
    Translated as Translated,
)
from lit_unlearn.evaluation.suites.lm_harness import LmHarness as LmHarness
from lit_unlearn.evaluation.suites.membership import Membership as Membership
from lit_unlearn.evaluation.suites.multiple_choice import MultipleChoice as MultipleChoice
from lit_unlearn.evaluation.suites.muse import Muse as Muse
from lit_unlearn.evaluation.suites.optimised_suffix import Gcg as Gcg
from lit_unlearn.evaluation.suites.optimised_vectors import SoftPrompt as SoftPrompt
from lit_unlearn.evaluation.suites.pruned import Pruned as Pruned
from lit_unlearn.evaluation.suites.quantised import Quantised as Quantised
from lit_unlearn.evaluation.suites.readability import Readability as Readability
from lit_unlearn.evaluation.suites.relearned import Relearn as Relearn
from lit_unlearn.evaluation.suites.rwku import Rwku as Rwku
from lit_unlearn.evaluation.suites.sampled_leakage import SampledLeakage as SampledLeakage
from lit_unlearn.evaluation.suites.self_correction import SelfCorrection as SelfCorrection
from lit_unlearn.evaluation.suites.selection import Selection as Selection
from lit_unlearn.evaluation.suites.tofu import Tofu as Tofu
from lit_unlearn.gradients.combination import (
    SAGO as SAGO,
    Combination as Combination,
    DualOptimPlus as DualOptimPlus,
    RepSelect as RepSelect,
)
from lit_unlearn.gradients.weighting import (
    IMTLG as IMTLG,
    MGDA as MGDA,
    AlignedMTL as AlignedMTL,
    CAGrad as CAGrad,
    ConFIG as ConFIG,
    CosineWeighting as CosineWeighting,
    DualAscent as DualAscent,
    DualProj as DualProj,
    DynamicWeightAverage as DynamicWeightAverage,
    Fixed as Fixed,
    GradVac as GradVac,
    LossWeighting as LossWeighting,
    NashMTL as NashMTL,
    NGDiff as NGDiff,
    OneSidedProjection as OneSidedProjection,
    PCGrad as PCGrad,
    TorchJD as TorchJD,
    TwoSided as TwoSided,
    UncertaintyWeighting as UncertaintyWeighting,
    UPGrad as UPGrad,
    Weighting as Weighting,
)
from lit_unlearn.interference_study.interference import (
    Interference as Interference,
    interference as interference,
)
from lit_unlearn.interference_study.interference_page import read_figures as read_figures
from lit_unlearn.interference_study.interference_pictures import (
    gap_figure as gap_figure,
    layer_figure as layer_figure,
    matrix_figure as matrix_figure,
)
from lit_unlearn.metrics.answers import (
    AnswerNLL as AnswerNLL,
    AnswerProbability as AnswerProbability,
    ExactMemorisation as ExactMemorisation,
    ExtractionStrength as ExtractionStrength,
)
from lit_unlearn.metrics.combined import (
    ModelUtility as ModelUtility,
    UnlearningBalance as UnlearningBalance,
)
from lit_unlearn.metrics.functional.balance import Measured as Measured
from lit_unlearn.metrics.gradients import (
    GradientConflictRate as GradientConflictRate,
    GradientCosine as GradientCosine,
)
from lit_unlearn.metrics.leakage import (
    LeakAtK as LeakAtK,
    MembershipAUC as MembershipAUC,
    PrivLeak as PrivLeak,
)
from lit_unlearn.metrics.margin import MarginViolation as MarginViolation
from lit_unlearn.metrics.replies import (
    RefusalRate as RefusalRate,
    Repetition as Repetition,
    RougeL as RougeL,
)
from lit_unlearn.metrics.truth import ForgetQuality as ForgetQuality, TruthRatio as TruthRatio
from lit_unlearn.models.loading import (
    LoRA as LoRA,
    ModelSource as ModelSource,
    load_model as load_model,
)
from lit_unlearn.models.noise import Noise as Noise
from lit_unlearn.models.task_vector import task_vector as task_vector
from lit_unlearn.objectives import (
    BST as BST,
    CEU as CEU,
    DPO as DPO,
    FLAT as FLAT,
    MASC as MASC,
    NPO as NPO,
    PALU as PALU,
    RMU as RMU,
    TNPO as TNPO,
    UNDIAL as UNDIAL,
    WGA as WGA,
    AdaptiveRMU as AdaptiveRMU,
    Adversarial as Adversarial,
    AnswerPreservation as AnswerPreservation,
    BidirectionalDistillation as BidirectionalDistillation,
    BiLD as BiLD,
    Constant as Constant,
    CrossEntropy as CrossEntropy,
    DeclineEverywhere as DeclineEverywhere,
    ForwardKL as ForwardKL,
    GeneralizedJSD as GeneralizedJSD,
    GradientAscent as GradientAscent,
    HiddenObjective as HiddenObjective,
    HiddenRetain as HiddenRetain,
    JensUn as JensUn,
    LatentAdversarial as LatentAdversarial,
    LinearDecay as LinearDecay,
    LinearWarmup as LinearWarmup,
    LogitFlattening as LogitFlattening,
    LogitObjective as LogitObjective,
    MaximumEntropy as MaximumEntropy,
    Objective as Objective,
    Reader as Reader,
    RepresentationRerouting as RepresentationRerouting,
    ReverseKL as ReverseKL,
    SatImp as SatImp,
    Schedule as Schedule,
    SharpnessAware as SharpnessAware,
    SimNPO as SimNPO,
    Terms as Terms,
    Unilogit as Unilogit,
)
from lit_unlearn.planning.plan import TrainerSettings as TrainerSettings, plan as plan
from lit_unlearn.planning.planned_rows import Lengths as Lengths
from lit_unlearn.planning.planner import Plan as Plan
from lit_unlearn.report import (
    cosine_figure as cosine_figure,
    heatmap_figure as heatmap_figure,
    norm_figure as norm_figure,
    read_gradients as read_gradients,
    summary_table as summary_table,
)
from lit_unlearn.requests.audit import Audit as Audit, audit as audit
from lit_unlearn.requests.erase import erase as erase
from lit_unlearn.requests.request import Forget as Forget, Keep as Keep, Request as Request
from lit_unlearn.requests.retrain import retrain as retrain
from lit_unlearn.requests.thresholds import Threshold as Threshold
from lit_unlearn.requests.verify import verify as verify
from lit_unlearn.rewriting.backends import Backend as Backend, Rules as Rules
from lit_unlearn.rewriting.local import LocalModel as LocalModel
from lit_unlearn.rewriting.rewrite import RewriteSettings as RewriteSettings, rewrite as rewrite
from lit_unlearn.rewriting.server import Server as Server
from lit_unlearn.sweeping.sweep import sweep as sweep
from lit_unlearn.teachers import (
    AdapterOffTeacher as AdapterOffTeacher,
    ContrastTeacher as ContrastTeacher,
    EMATeacher as EMATeacher,
    FrozenTeacher as FrozenTeacher,
    SmoothedTeacher as SmoothedTeacher,
    Teacher as Teacher,
)
from lit_unlearn.training.methods import card as card
from lit_unlearn.training.module import UnlearnModule as UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate as Gate
from lit_unlearn.types import (
    EncodedExample as EncodedExample,
    Example as Example,
    TokenBatch as TokenBatch,
    Tokens as Tokens,
    Turn as Turn,
)

__version__: str
