"""What a pickle may import: a closed list, reviewed name by name; everything else is refused.

A list of what is bad loses: there is always another name that runs code. This one holds classes and functions that build
values and do nothing else, whatever their arguments are. So it has no `getattr`, no `partial`, no `map`, nothing that takes the
name of another thing (`numpy.core._ufunc_reconstruct` imports by name), nothing that opens a file.
A new entry: say which library saves it and read what it does with hostile arguments. RULES goes up by one with every change,
and what was scanned by older rules is scanned again.
"""

from __future__ import annotations

import re

RULES = 1

_EXACT = """
builtins: object set frozenset dict list tuple int float complex str bytes bytearray bool slice range
__builtin__: object set frozenset dict list tuple int long float complex str bytes unicode bytearray bool slice xrange
copyreg: _reconstructor __newobj__ __newobj_ex__
copy_reg: _reconstructor __newobj__
_codecs: encode
collections: OrderedDict defaultdict Counter deque
datetime: datetime date time timedelta timezone
decimal: Decimal
fractions: Fraction
uuid: UUID

numpy: dtype ndarray bool_ bool int8 int16 int32 int64 intp uint8 uint16 uint32 uint64 float16 float32 float64 float128
numpy: complex64 complex128 str_ bytes_ void datetime64 timedelta64 longdouble object_
numpy: abs absolute add argmax argmin cbrt ceil clip cos divide exp exp2 expm1 floor hypot log log10 log1p log2 max maximum mean
numpy: median min minimum multiply nanmax nanmean nanmedian nanmin nanstd nansum negative power prod reciprocal rint round sign
numpy: sin sqrt square std subtract sum tan tanh var isnan isfinite
numpy._core.multiarray: _reconstruct scalar
numpy.core.multiarray: _reconstruct scalar
numpy._core.numeric: _frombuffer
numpy.core.numeric: _frombuffer
numpy.ma: MaskedArray
numpy.ma.core: _mareconstruct MaskedArray
numpy.random: RandomState Generator
numpy.random.mtrand: RandomState
numpy.random._generator: Generator
numpy.random._mt19937: MT19937
numpy.random._pcg64: PCG64 PCG64DXSM
numpy.random._philox: Philox
numpy.random._sfc64: SFC64
numpy.random._pickle: __randomstate_ctor __generator_ctor __bit_generator_ctor
numpy.random.bit_generator: SeedSequence __pyx_unpickle_SeedSequence

joblib.numpy_pickle: NumpyArrayWrapper
scipy.interpolate._bsplines: BSpline
scipy._lib.array_api_compat.numpy._aliases: asarray

pandas: Categorical CategoricalDtype DataFrame Index MultiIndex PeriodDtype PeriodIndex RangeIndex Series StringDtype Timestamp
pandas: Timedelta DatetimeIndex TimedeltaIndex CategoricalIndex DatetimeTZDtype Interval IntervalIndex IntervalDtype Int64Dtype
pandas: Float64Dtype BooleanDtype
pandas.arrays: ArrowStringArray DatetimeArray PeriodArray TimedeltaArray IntegerArray FloatingArray BooleanArray StringArray
pandas._libs.arrays: __pyx_unpickle_NDArrayBacked
pandas._libs.internals: _unpickle_block
pandas._libs.tslibs.timedeltas: _timedelta_unpickle
pandas._libs.tslibs.timestamps: _unpickle_timestamp
pandas._libs.tslibs.nattype: __nat_unpickle
pandas.core.indexes.base: _new_Index Index
pandas.core.indexes.range: RangeIndex
pandas.core.indexes.multi: MultiIndex
pandas.core.indexes.datetimes: DatetimeIndex _new_DatetimeIndex
pandas.core.internals.managers: BlockManager SingleBlockManager
pandas.core.frame: DataFrame
pandas.core.series: Series
pandas.core.arrays.categorical: Categorical
pandas.core.arrays.string_: StringArray
pandas.core.arrays.string_arrow: ArrowStringArray
pandas.core.arrays.datetimes: DatetimeArray
pandas.core.dtypes.dtypes: CategoricalDtype DatetimeTZDtype PeriodDtype
pyarrow.lib: _restore_array py_buffer type_for_alias

torch: FloatStorage DoubleStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage CharStorage ByteStorage
torch: BoolStorage Tensor Size device float16 float32 float64 bfloat16 int8 int16 int32 int64 uint8 bool complex64 complex128
torch._utils: _rebuild_tensor _rebuild_tensor_v2 _rebuild_parameter _rebuild_parameter_with_state
torch.storage: UntypedStorage TypedStorage
torch.nn.parameter: Parameter Buffer UninitializedParameter
torch.serialization: _get_layout
torch.nn.modules.container: Sequential ModuleList ModuleDict ParameterList ParameterDict
torch.nn.modules.linear: Linear Identity Bilinear LazyLinear NonDynamicallyQuantizableLinear
torch.nn.modules.activation: ReLU ReLU6 Sigmoid Tanh GELU SiLU ELU LeakyReLU PReLU Softmax LogSoftmax Softplus Hardswish Mish
torch.nn.modules.activation: MultiheadAttention
torch.nn.modules.conv: Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d
torch.nn.modules.batchnorm: BatchNorm1d BatchNorm2d BatchNorm3d
torch.nn.modules.normalization: LayerNorm GroupNorm RMSNorm
torch.nn.modules.pooling: MaxPool1d MaxPool2d AvgPool1d AvgPool2d AdaptiveAvgPool1d AdaptiveAvgPool2d
torch.nn.modules.dropout: Dropout Dropout1d Dropout2d
torch.nn.modules.sparse: Embedding EmbeddingBag
torch.nn.modules.rnn: RNN LSTM GRU
torch.nn.modules.flatten: Flatten Unflatten
torch.nn.modules.transformer: Transformer TransformerEncoder TransformerEncoderLayer TransformerDecoder TransformerDecoderLayer

xgboost.core: Booster
xgboost.sklearn: XGBModel XGBClassifier XGBRegressor XGBRanker XGBRFClassifier XGBRFRegressor
lightgbm.basic: Booster
lightgbm.sklearn: LGBMModel LGBMClassifier LGBMRegressor LGBMRanker
catboost.core: CatBoost CatBoostClassifier CatBoostRegressor CatBoostRanker
"""

# Classes that scikit-learn defines and that are part of a fitted estimator. Matched by name in any of its modules but those
# below, since it moves them between versions; none of the names is that of something it imports from elsewhere.
# Left out on purpose: PyFuncDistance and _FuncWrapper (they call what they are given), Parallel, the data set loaders.
_SKLEARN = """
    ARDRegression AbsoluteError AdaBoostClassifier AdaBoostRegressor AdamOptimizer AdditiveChi2Sampler AffinityPropagation
    AgglomerationTransform AgglomerativeClustering ArrayDataset32 ArrayDataset64 BaggingClassifier BaggingRegressor
    BallTree BallTree32 BallTree64 BayesianGaussianMixture BayesianRidge BernoulliNB BernoulliRBM Binarizer BinaryTree32
    BinaryTree64 Birch BisectingKMeans BrayCurtisDistance32 BrayCurtisDistance64 Bunch CCA CSRDataset32 CSRDataset64
    CalibratedClassifierCV CanberraDistance32 CanberraDistance64 CategoricalNB ChebyshevDistance32 ChebyshevDistance64
    ClassicalMDS Classification ClassifierChain ColumnTransformer ComplementNB CompoundKernel ConstantKernel
    CountVectorizer CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfMultinomialLoss
    CyHalfPoissonLoss CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyLossFunction
    CyPinballLoss DBSCAN DecisionTreeClassifier DecisionTreeRegressor DiceDistance32 DiceDistance64 DictVectorizer
    DictionaryLearning DistanceMetric DistanceMetric32 DistanceMetric64 DotProduct DummyClassifier DummyRegressor
    ElasticNet ElasticNetCV EllipticEnvelope EmpiricalCovariance Entropy EpsilonInsensitive EuclideanDistance32
    EuclideanDistance64 ExpSineSquared ExponentialLoss Exponentiation ExtraTreeClassifier ExtraTreeRegressor
    ExtraTreesClassifier ExtraTreesRegressor FactorAnalysis FastICA FeatureAgglomeration FeatureHasher FeatureUnion
    FixedThresholdClassifier ForestClassifier ForestRegressor FrozenEstimator FunctionTransformer GammaRegressor
    GaussianMixture GaussianNB GaussianProcessClassifier GaussianProcessRegressor GaussianRandomProjection
    GenericUnivariateSelect Gini GradientBoostingClassifier GradientBoostingRegressor GraphicalLasso GraphicalLassoCV
    GridSearchCV GroupKFold GroupShuffleSplit HDBSCAN HalfBinomialLoss HalfBinomialLossArrayAPI HalfGammaLoss
    HalfLogitLink HalfMultinomialLoss HalfMultinomialLossArrayAPI HalfPoissonLoss HalfPoissonLossArrayAPI HalfSquaredError
    HalfTweedieLoss HalfTweedieLossIdentity HalvingGridSearchCV HalvingRandomSearchCV HammingDistance32 HammingDistance64
    HashingVectorizer HaversineDistance32 HaversineDistance64 Hinge HistGradientBoostingClassifier
    HistGradientBoostingRegressor HuberLoss HuberRegressor Hyperparameter IdentityLink IncrementalPCA IntFloatDict Interval
    IsolationForest Isomap IsotonicRegression IterativeImputer JaccardDistance32 JaccardDistance64 KBinsDiscretizer KDTree
    KDTree32 KDTree64 KFold KMeans KNNImputer KNeighborsClassifier KNeighborsRegressor KNeighborsTransformer Kernel
    KernelCenterer KernelDensity KernelOperator KernelPCA KernelRidge KulsinskiDistance32 KulsinskiDistance64
    LabelBinarizer LabelEncoder LabelPropagation LabelSpreading Lars LarsCV Lasso LassoCV LassoLars LassoLarsCV
    LassoLarsIC LatentDirichletAllocation LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut LedoitWolf
    LinearDiscriminantAnalysis LinearModel LinearModelCV LinearModelLoss LinearRegression LinearSVC LinearSVR
    LocalOutlierFactor LocallyLinearEmbedding LogLink LogisticRegression LogisticRegressionCV LogitLink MAE MDS
    MLPClassifier MLPRegressor MSE MahalanobisDistance32 MahalanobisDistance64 ManhattanDistance32 ManhattanDistance64
    MatchingDistance32 MatchingDistance64 Matern MaxAbsScaler MeanShift MinCovDet MinMaxScaler MiniBatchDictionaryLearning
    MiniBatchKMeans MiniBatchNMF MiniBatchSparsePCA MinkowskiDistance32 MinkowskiDistance64 MissingIndicator ModifiedHuber
    MultiLabelBinarizer MultiOutputClassifier MultiOutputLinearModel MultiOutputRegressor MultiTaskElasticNet
    MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV MultinomialLogit MultinomialNB NMF NearestCentroid
    NearestNeighbors NeighborhoodComponentsAnalysis NeighborsBase Normalizer NuSVC NuSVR Nystroem OAS OPTICS OneClassSVM
    OneHotEncoder OneVsOneClassifier OneVsRestClassifier OrdinalEncoder OrthogonalMatchingPursuit
    OrthogonalMatchingPursuitCV OutputCodeClassifier PCA PLSCanonical PLSRegression PLSSVD PairwiseKernel ParameterGrid
    ParameterSampler PassiveAggressiveClassifier PassiveAggressiveRegressor PatchExtractor Perceptron PinballLoss Pipeline
    Poisson PoissonRegressor PolynomialCountSketch PolynomialFeatures PowerTransformer PredefinedSplit Product
    QuadraticDiscriminantAnalysis QuantileRegressor QuantileTransformer RANSACRegressor RBF RBFSampler RFE RFECV
    RadiusNeighbors RadiusNeighborsClassMode RadiusNeighborsClassifier RadiusNeighborsRegressor RadiusNeighborsTransformer
    RandomForestClassifier RandomForestRegressor RandomTreesEmbedding RandomizedSearchCV RationalQuadratic Regression
    RegressorChain RepeatedKFold RepeatedStratifiedKFold Ridge RidgeCV RidgeClassifier RidgeClassifierCV RobustScaler
    RogersTanimotoDistance32 RogersTanimotoDistance64 RussellRaoDistance32 RussellRaoDistance64 SEuclideanDistance32
    SEuclideanDistance64 SGDClassifier SGDOneClassSVM SGDOptimizer SGDRegressor SVC SVR SelectFdr SelectFpr
    SelectFromModel SelectFwe SelectKBest SelectPercentile SelfTrainingClassifier SequentialDataset32 SequentialDataset64
    SequentialFeatureSelector ShrunkCovariance ShuffleSplit SimpleImputer SkewedChi2Sampler SokalMichenerDistance32
    SokalMichenerDistance64 SokalSneathDistance32 SokalSneathDistance64 SparseCoder SparsePCA SparseRandomProjection
    SpectralBiclustering SpectralClustering SpectralCoclustering SpectralEmbedding SplineTransformer SplitInfo
    SquaredEpsilonInsensitive SquaredHinge StackingClassifier StackingRegressor StandardScaler StratifiedGroupKFold
    StratifiedKFold StratifiedShuffleSplit Sum TSNE TargetEncoder TfidfTransformer TfidfVectorizer TheilSenRegressor
    TimeSeriesSplit TransformedTargetRegressor Tree TreeNode TreePredictor TruncatedSVD TunedThresholdClassifierCV
    TweedieRegressor VarianceThreshold VotingClassifier VotingRegressor WeightedEdge WhiteKernel _AlphaPruner _BinMapper
    _BinaryGaussianProcessClassifierLaplace _BisectingTree _CCPPruneController _CFNode _CFSubcluster _CVIterableWrapper
    _CalibratedClassifier _ConstantPredictor _CurveScorer _GeneralizedLinearRegressor _IDCounter _IdentityClassifier
    _IdentityRegressor _ImputerTriplet _MultiOutputEstimator _MultimetricScorer _NaNCounter _PLS _PassthroughScorer
    _PathFinder _QuadTree _RepeatedSplits _RidgeGCV _Scorer _SigmoidCalibration _TemperatureScaling _VerboseHelper
    make_column_selector
    newObj f_classif f_regression chi2 r_regression mutual_info_classif mutual_info_regression _kmeans_single_lloyd
    _kmeans_single_elkan make_column_selector
"""
_SCIPY_SPARSE = """
    csr_matrix csc_matrix coo_matrix dia_matrix lil_matrix dok_matrix bsr_matrix csr_array csc_array coo_array dia_array lil_array
"""

EXACT = frozenset(
    f"{module.strip()} {name}"
    for module, _, names in (line.partition(":") for line in _EXACT.strip().splitlines() if ":" in line)
    for name in names.split()
)
_FAMILIES = (
    (
        re.compile(r"sklearn(\.(?!externals\b|datasets\b|tests\b|_build_utils\b|callback)[a-z0-9_]+)*\Z"),
        frozenset(_SKLEARN.split()),
    ),
    (re.compile(r"scipy\.sparse(\._?[a-z]+)?\Z"), frozenset(_SCIPY_SPARSE.split())),
)
_SKLEARN_NEVER = re.compile(r"sklearn\.utils\.(_testing|_mocking|parallel|estimator_checks|fixes)\b")

# Their constructors open the file or address they are given; a pickle of them goes past the constructor.
_NEVER_CALLED = re.compile(r"(xgboost|lightgbm|catboost)\.")


def is_allowed(module: str, name: str) -> bool:
    """May a pickle import `name` from `module`?"""
    if f"{module} {name}" in EXACT:
        return True
    return any(pattern.match(module) and name in names for pattern, names in _FAMILIES) and not _SKLEARN_NEVER.match(module)


def may_be_called(module: str, name: str) -> bool:
    """May a pickle call `name`, rather than only make an instance past its constructor?"""
    return not _NEVER_CALLED.match(module)
